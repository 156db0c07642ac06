/** Over the page, once its session has ended: one signs in again in place, and nothing that was typed is lost. */
import { Button, Modal, Stack, Text } from "@mantine/core";
import { notifyError } from "../parts/notify.ts";
import { signOut } from "./client.ts";
import { useSession } from "./state.ts";
import { TokenForm } from "./token-form.tsx";

export function SessionEnded() {
  const session = useSession();
  const ended = session.kind === "ended" ? session.me : undefined;
  return (
    <Modal
      opened={ended !== undefined}
      onClose={() => {}}
      withCloseButton={false}
      closeOnEscape={false}
      closeOnClickOutside={false}
      title="Your session has ended"
      size="sm"
      zIndex={400}
    >
      <Stack gap="md">
        <Text size="sm" c="dimmed">
          Sign in again as {ended?.username} to go on where you were. What you typed is still here.
        </Text>
        <TokenForm label="Token" onDone={() => {}} />
        <Button
          variant="subtle"
          color="gray"
          onClick={() => signOut().catch((error: unknown) => notifyError("You are not signed out", error))}
        >
          Sign out instead
        </Button>
      </Stack>
    </Modal>
  );
}

/** Makes a new token with the same grants; the old one lives on for a while, so that clients can switch. */
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { useMutation } from "@connectrpc/connect-query";
import { Button, Group, Modal, Radio, Stack, Text } from "@mantine/core";
import { useQueryClient } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";
import { useRef, useState } from "react";
import {
  type ApiKey,
  ApiKeyService,
  type RotateApiKeyResponse,
} from "../../../../gen/latchkey/v1/api_key_service_pb.js";
import { errorText, isRefusal } from "../../parts/error-text.ts";
import { Notice } from "../../parts/notice.tsx";
import { useTokenGuard } from "../../parts/token-guard.tsx";
import { TokenOnce } from "../../parts/token-once.tsx";

const hourMs = 3_600_000;
const graces = [
  { value: String(hourMs), label: "1 hour" },
  { value: String(24 * hourMs), label: "24 hours" },
  { value: String(7 * 24 * hourMs), label: "7 days" },
  { value: String(30 * 24 * hourMs), label: "30 days" },
  { value: "0", label: "None: end the old token at once" },
];

interface RotateDialogProps {
  readonly apiKey: ApiKey;
  readonly opened: boolean;
  readonly onClose: () => void;
}

export function RotateDialog({ apiKey, opened, onClose }: RotateDialogProps) {
  const [made, setMade] = useState<RotateApiKeyResponse>();
  const navigate = useNavigate();
  const newKey = made?.apiKey;
  const guard = useTokenGuard(made?.token);

  function close() {
    setMade(undefined);
    onClose();
  }

  return (
    <>
      <Modal
        // The token may come after the form was closed.
        opened={opened || made !== undefined}
        onClose={() => guard.leave(close)}
        title={made === undefined ? `Rotate “${apiKey.name}”` : "The new token"}
        size="lg"
        // Escape answers the question, and does not ask it again.
        closeOnEscape={!guard.isAsking}
      >
        {made === undefined || newKey === undefined ? (
          <RotateForm apiKey={apiKey} onClose={onClose} onMade={setMade} />
        ) : (
          <Stack gap="md">
            <TokenOnce
              apiKey={newKey}
              token={made.token}
              withheldReason={made.tokenWithheldReason}
              onCopied={guard.keep}
            />
            <Group justify="flex-end">
              <Button
                onClick={() => {
                  guard.keep();
                  onClose();
                  void navigate({ to: "/keys/$id", params: { id: newKey.id } });
                }}
              >
                I have copied it: to the new key
              </Button>
            </Group>
          </Stack>
        )}
      </Modal>
      {guard.question}
    </>
  );
}

interface RotateFormProps {
  readonly apiKey: ApiKey;
  readonly onClose: () => void;
  readonly onMade: (made: RotateApiKeyResponse) => void;
}

function RotateForm({ apiKey, onClose, onMade }: RotateFormProps) {
  const [grace, setGrace] = useState(String(24 * hourMs));
  // Sent again, the same request makes no second key.
  const requestId = useRef(crypto.randomUUID());
  const client = useQueryClient();
  const rotate = useMutation(ApiKeyService.method.rotateApiKey);

  async function submit() {
    try {
      onMade(
        await rotate.mutateAsync({
          id: apiKey.id,
          grace: durationFromMs(Number(grace)),
          requestId: requestId.current,
        }),
      );
      await client.invalidateQueries();
    } catch (error) {
      // Shown below.
      if (isRefusal(error)) requestId.current = crypto.randomUUID();
    }
  }

  return (
    <form
      onSubmit={(event) => {
        event.preventDefault();
        void submit();
      }}
    >
      <Stack gap="md">
        <Text size="sm">
          Makes a new key with the same grants and a new token. The old token goes on for the grace period, so
          that clients can switch; its page then shows the traffic of both beside each other.
        </Text>
        <Radio.Group label="The old token lives on for" value={grace} onChange={setGrace}>
          <Stack gap="xs" mt={6}>
            {graces.map(({ value, label }) => (
              <Radio key={value} value={value} label={label} />
            ))}
          </Stack>
        </Radio.Group>
        {rotate.error !== null && <Notice tone="danger">{errorText(rotate.error)}</Notice>}
        <Group justify="flex-end" gap="xs">
          <Button variant="default" onClick={onClose}>
            Cancel
          </Button>
          <Button type="submit" loading={rotate.isPending}>
            Rotate
          </Button>
        </Group>
      </Stack>
    </form>
  );
}

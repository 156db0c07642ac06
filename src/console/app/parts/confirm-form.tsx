import { Button, Group, Stack } from "@mantine/core";
import { type ReactNode, useState } from "react";
import { errorText } from "./error-text.ts";
import { Notice } from "./notice.tsx";

interface ConfirmFormProps {
  /** What will happen, or the fields of what will be written. */
  readonly children: ReactNode;
  /** On the button that does it. */
  readonly action: string;
  readonly isDanger?: boolean;
  readonly isReady?: boolean;
  /** Does it; closes the dialog itself. What it throws is shown. */
  readonly onConfirm: () => Promise<void>;
  readonly onCancel: () => void;
}

/** The body of a dialog that asks before something is done, or for what it is done with. */
export function ConfirmForm(props: ConfirmFormProps) {
  const { children, action, isDanger = false, isReady = true, onConfirm, onCancel } = props;
  const [error, setError] = useState<unknown>();
  const [isBusy, setBusy] = useState(false);

  async function submit() {
    setBusy(true);
    setError(undefined);
    try {
      await onConfirm();
    } catch (reason) {
      setError(reason);
    } finally {
      setBusy(false);
    }
  }

  return (
    <form
      noValidate
      onSubmit={(event) => {
        event.preventDefault();
        void submit();
      }}
    >
      <Stack gap="md">
        {children}
        {error !== undefined && <Notice tone="danger">{errorText(error)}</Notice>}
        <Group justify="flex-end" gap="xs">
          <Button variant="default" onClick={onCancel}>
            Cancel
          </Button>
          <Button type="submit" loading={isBusy} disabled={!isReady} {...(isDanger ? { color: "red" } : {})}>
            {action}
          </Button>
        </Group>
      </Stack>
    </form>
  );
}

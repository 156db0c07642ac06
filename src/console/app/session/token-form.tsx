/** The field that a token is typed into. The token lives in the field alone, and is gone from it once sent. */
import { ConnectError } from "@connectrpc/connect";
import { Button, PasswordInput, Stack } from "@mantine/core";
import { type FormEvent, useRef, useState } from "react";
import { ErrorInfoSchema } from "../../../gen/google/rpc/error_details_pb.js";
import { errorText } from "../parts/error-text.ts";
import { signIn } from "./client.ts";

export function TokenForm({ label, onDone }: { label: string; onDone: () => void }) {
  const field = useRef<HTMLInputElement>(null);
  const [problem, setProblem] = useState<string>();
  const [busy, setBusy] = useState(false);

  async function submit(event: FormEvent) {
    event.preventDefault();
    const input = field.current;
    const token = input?.value.trim() ?? "";
    if (input === null || token === "") {
      setProblem("Paste a token.");
      input?.focus();
      return;
    }
    setBusy(true);
    setProblem(undefined);
    try {
      await signIn(token);
      input.value = "";
      onDone();
    } catch (error) {
      setProblem(isLimited(error) ? limited : errorText(error));
      input.select();
    } finally {
      setBusy(false);
    }
  }

  return (
    <form onSubmit={submit} noValidate>
      <Stack gap="md">
        <PasswordInput
          ref={field}
          label={label}
          name="token"
          autoComplete="current-password"
          spellCheck={false}
          data-autofocus
          autoFocus
          error={problem}
          classNames={{ innerInput: "mono" }}
        />
        <Button type="submit" loading={busy} fullWidth>
          Sign in
        </Button>
      </Stack>
    </form>
  );
}

const limited =
  "This key is limited to some methods and cannot sign in here. Sign in with another key of this user.";

/** Whether the key's allowed methods leave out signing in. */
function isLimited(error: unknown): boolean {
  return ConnectError.from(error)
    .findDetails(ErrorInfoSchema)
    .some(({ reason }) => reason === "METHOD_NOT_ALLOWED");
}

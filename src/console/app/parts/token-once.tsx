/** A new token, this once, with what one does with it. */
import { Stack, Tabs } from "@mantine/core";
import type { ApiKey } from "../../../gen/latchkey/v1/api_key_service_pb.js";
import { CodeBlock } from "./code-block.tsx";
import { curlCommand, grpcurlCommand } from "./commands.ts";
import { CopyButton } from "./copy-button.tsx";
import { useFirstCall } from "./first-call.ts";
import { Notice } from "./notice.tsx";
import classes from "./token-once.module.css";

interface TokenOnceProps {
  readonly apiKey: ApiKey;
  /** Empty where the server has told it before. */
  readonly token: string;
  readonly withheldReason: string;
  /** The token was copied, by itself or within a command. */
  readonly onCopied: () => void;
}

export function TokenOnce({ apiKey, token, withheldReason, onCopied }: TokenOnceProps) {
  const call = useFirstCall(apiKey, token);
  if (token === "") {
    return (
      <Notice tone="warning" title="The key was made, and its token is gone">
        {withheldReason} Revoke this key and create another, or rotate it.
      </Notice>
    );
  }
  return (
    <Stack
      gap="md"
      // Selected and copied by hand.
      onCopy={() => {
        if (window.getSelection()?.toString().includes(token)) onCopied();
      }}
    >
      <div className={classes.token}>
        <code data-testid="token">{token}</code>
        <CopyButton value={token} label="Copy the token" onCopied={onCopied}>
          Copy
        </CopyButton>
      </div>
      <Notice tone="warning">Copy it now. It is not stored, and nobody can show it again.</Notice>
      {call !== undefined && (
        <Tabs defaultValue="curl">
          <Tabs.List>
            <Tabs.Tab value="curl">curl</Tabs.Tab>
            <Tabs.Tab value="grpcurl">grpcurl</Tabs.Tab>
          </Tabs.List>
          <Tabs.Panel value="curl" pt="sm">
            <CodeBlock code={curlCommand(call)} label="curl command" onCopied={onCopied} />
          </Tabs.Panel>
          <Tabs.Panel value="grpcurl" pt="sm">
            <CodeBlock code={grpcurlCommand(call)} label="grpcurl command" onCopied={onCopied} />
          </Tabs.Panel>
        </Tabs>
      )}
    </Stack>
  );
}

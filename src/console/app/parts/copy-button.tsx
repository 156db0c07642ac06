import { ActionIcon, Button, Tooltip } from "@mantine/core";
import { useClipboard } from "@mantine/hooks";
import { IconCheck, IconCopy } from "@tabler/icons-react";
import { useEffect } from "react";

interface CopyButtonProps {
  readonly value: string;
  readonly label: string;
  /** Told once the text is in the clipboard. */
  readonly onCopied?: (() => void) | undefined;
  readonly children?: string;
}

/** Copies a text. With children a button, else an icon. */
export function CopyButton({ value, label, onCopied, children }: CopyButtonProps) {
  const { copied, copy } = useClipboard({ timeout: 1_500 });
  useEffect(() => {
    if (copied) onCopied?.();
  }, [copied, onCopied]);
  const icon = copied ? <IconCheck size={15} aria-hidden /> : <IconCopy size={15} aria-hidden />;
  if (children !== undefined) {
    return (
      <Button variant="default" leftSection={icon} onClick={() => copy(value)} aria-label={label}>
        {copied ? "Copied" : children}
      </Button>
    );
  }
  return (
    <Tooltip label={copied ? "Copied" : label}>
      <ActionIcon onClick={() => copy(value)} aria-label={label} size={26}>
        {icon}
      </ActionIcon>
    </Tooltip>
  );
}

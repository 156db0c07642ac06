import { ActionIcon, Button, CopyButton as Copy, Tooltip } from "@mantine/core";
import { IconCheck, IconCopy } from "@tabler/icons-react";

/** Copies a text. With children a button, else an icon. */
export function CopyButton({ value, label, children }: { value: string; label: string; children?: string }) {
  return (
    <Copy value={value} timeout={1_500}>
      {({ copied, copy }) => {
        const icon = copied ? <IconCheck size={15} aria-hidden /> : <IconCopy size={15} aria-hidden />;
        if (children !== undefined) {
          return (
            <Button variant="default" leftSection={icon} onClick={copy} aria-label={label}>
              {copied ? "Copied" : children}
            </Button>
          );
        }
        return (
          <Tooltip label={copied ? "Copied" : label}>
            <ActionIcon onClick={copy} aria-label={label} size={26}>
              {icon}
            </ActionIcon>
          </Tooltip>
        );
      }}
    </Copy>
  );
}

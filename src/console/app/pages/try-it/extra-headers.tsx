import { ActionIcon, Button, TextInput } from "@mantine/core";
import { IconPlus, IconTrash } from "@tabler/icons-react";
import classes from "./try-it.module.css";

export type HeaderRow = readonly [name: string, value: string];

interface ExtraHeadersProps {
  readonly value: readonly HeaderRow[];
  readonly onChange: (headers: readonly HeaderRow[]) => void;
}

/** Headers that are sent besides the token. */
export function ExtraHeaders({ value, onChange }: ExtraHeadersProps) {
  return (
    <div className={classes.headers}>
      {value.map(([name, text], index) => (
        // biome-ignore lint/suspicious/noArrayIndexKey: the name is being typed.
        <div key={index} className={classes.header}>
          <TextInput
            aria-label={`Name of header ${index + 1}`}
            placeholder="name"
            value={name}
            spellCheck={false}
            onChange={({ currentTarget }) => onChange(value.with(index, [currentTarget.value, text]))}
          />
          <TextInput
            aria-label={`Value of header ${index + 1}`}
            placeholder="value"
            value={text}
            spellCheck={false}
            onChange={({ currentTarget }) => onChange(value.with(index, [name, currentTarget.value]))}
          />
          <ActionIcon
            aria-label={`Remove header ${index + 1}`}
            onClick={() => onChange(value.toSpliced(index, 1))}
          >
            <IconTrash size={16} aria-hidden />
          </ActionIcon>
        </div>
      ))}
      <Button
        variant="subtle"
        color="gray"
        size="xs"
        leftSection={<IconPlus size={14} aria-hidden />}
        onClick={() => onChange([...value, ["", ""]])}
      >
        Add a header
      </Button>
    </div>
  );
}

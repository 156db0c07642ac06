import type { DescField, JsonValue } from "@bufbuild/protobuf";
import { ActionIcon, Button, TextInput } from "@mantine/core";
import { IconPlus, IconTrash } from "@tabler/icons-react";
import { useState } from "react";
import { Element } from "./element.tsx";
import classes from "./form.module.css";
import type { ValueProps } from "./scalar.tsx";
import { typeName } from "./type-name.ts";

type EntriesProps = Omit<ValueProps, "label"> & { field: DescField & { fieldKind: "map" } };

/** A map. Entries are kept in order while they are typed; two with one key are one when they are sent. */
export function Entries({ field, about, value, onChange }: EntriesProps) {
  const isObject = typeof value === "object" && value !== null && !Array.isArray(value);
  const [entries, setEntries] = useState<[key: string, value: JsonValue][]>(() =>
    isObject ? Object.entries(value) : [],
  );
  const set = (next: [string, JsonValue][]) => {
    setEntries(next);
    onChange(next.length === 0 ? undefined : Object.fromEntries(next));
  };
  return (
    <fieldset className={classes.group}>
      <legend>
        {field.name} <span className="dim">map to {typeName(field)}</span>
      </legend>
      {about !== "" && <p className={classes.about}>{about}</p>}
      {entries.map(([key, part], index) => (
        // biome-ignore lint/suspicious/noArrayIndexKey: the key is being typed.
        <div key={index} className={classes.item}>
          <TextInput
            label={`Key ${index + 1}`}
            value={key}
            spellCheck={false}
            onChange={({ currentTarget }) => set(entries.with(index, [currentTarget.value, part]))}
          />
          <div className={classes.element}>
            <Element
              type={field}
              label={`Value ${index + 1}`}
              value={part}
              onChange={(next) => set(entries.with(index, [key, next]))}
            />
          </div>
          <ActionIcon
            aria-label={`Remove entry ${index + 1} of ${field.name}`}
            onClick={() => set(entries.toSpliced(index, 1))}
          >
            <IconTrash size={16} aria-hidden />
          </ActionIcon>
        </div>
      ))}
      <Button
        variant="default"
        size="xs"
        leftSection={<IconPlus size={14} aria-hidden />}
        onClick={() => set([...entries, ["", field.message === undefined ? "" : {}]])}
      >
        Add to {field.name}
      </Button>
    </fieldset>
  );
}

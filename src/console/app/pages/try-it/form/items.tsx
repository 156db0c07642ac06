import type { DescField, JsonValue } from "@bufbuild/protobuf";
import { ActionIcon, Button } from "@mantine/core";
import { IconPlus, IconTrash } from "@tabler/icons-react";
import { Element } from "./element.tsx";
import classes from "./form.module.css";
import type { ValueProps } from "./scalar.tsx";
import { typeName } from "./type-name.ts";

type ItemsProps = Omit<ValueProps, "label"> & { field: DescField & { fieldKind: "list" } };

/** A repeated field. */
export function Items({ field, about, value, onChange }: ItemsProps) {
  const items = Array.isArray(value) ? value : [];
  const set = (next: JsonValue[]) => onChange(next.length === 0 ? undefined : next);
  return (
    <fieldset className={classes.group}>
      <legend>
        {field.name} <span className="dim">repeated {typeName(field)}</span>
      </legend>
      {about !== "" && <p className={classes.about}>{about}</p>}
      {items.map((item, index) => (
        // biome-ignore lint/suspicious/noArrayIndexKey: an item is what stands at its place.
        <div key={index} className={classes.item}>
          <div className={classes.element}>
            <Element
              type={field}
              label={`${field.name} ${index + 1}`}
              value={item}
              onChange={(next) => set(items.with(index, next))}
            />
          </div>
          <ActionIcon
            aria-label={`Remove ${field.name} ${index + 1}`}
            onClick={() => set(items.toSpliced(index, 1))}
          >
            <IconTrash size={16} aria-hidden />
          </ActionIcon>
        </div>
      ))}
      <Button
        variant="default"
        size="xs"
        leftSection={<IconPlus size={14} aria-hidden />}
        onClick={() => set([...items, field.message === undefined ? "" : {}])}
      >
        Add to {field.name}
      </Button>
    </fieldset>
  );
}

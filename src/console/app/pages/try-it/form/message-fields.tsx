import type { DescOneof, JsonObject, JsonValue } from "@bufbuild/protobuf";
import { Select } from "@mantine/core";
import { Field } from "./field.tsx";
import classes from "./form.module.css";
import type { MessageFieldsProps } from "./recursion.ts";

export function MessageFields({ message, value, onChange }: MessageFieldsProps) {
  if (message.members.length === 0) return <p className={classes.none}>This message has no fields.</p>;
  const set = (name: string, part: JsonValue | undefined) => onChange(withField(value, name, part));
  return (
    <div className={classes.fields}>
      {message.members.map((member) =>
        member.kind === "oneof" ? (
          <Oneof key={member.name} oneof={member} value={value} onChange={onChange} />
        ) : (
          <Field
            key={member.name}
            field={member}
            value={value[member.jsonName]}
            onChange={(part) => set(member.jsonName, part)}
          />
        ),
      )}
    </div>
  );
}

/** One of several fields, or none. */
function Oneof({ oneof, value, onChange }: { oneof: DescOneof } & Omit<MessageFieldsProps, "message">) {
  const chosen = oneof.fields.find(({ jsonName }) => jsonName in value);
  const others = Object.fromEntries(
    Object.entries(value).filter(([name]) => !oneof.fields.some(({ jsonName }) => jsonName === name)),
  );
  return (
    <fieldset className={classes.group}>
      <legend>
        <code>{oneof.name}</code>
      </legend>
      <Select
        aria-label={`Which of ${oneof.name}`}
        data={oneof.fields.map(({ name }) => name)}
        value={chosen?.name ?? null}
        placeholder="None of them"
        clearable
        onChange={(name) => {
          const field = oneof.fields.find((each) => each.name === name);
          onChange(field === undefined ? others : { ...others, [field.jsonName]: blankOf(field.fieldKind) });
        }}
      />
      {chosen !== undefined && (
        <Field
          field={chosen}
          value={value[chosen.jsonName]}
          // It stays the chosen one when its text is empty.
          onChange={(part) => onChange({ ...others, [chosen.jsonName]: part ?? blankOf(chosen.fieldKind) })}
        />
      )}
    </fieldset>
  );
}

const blankOf = (kind: string): JsonValue => (kind === "message" ? {} : "");

function withField(value: JsonObject, name: string, part: JsonValue | undefined): JsonObject {
  const { [name]: _old, ...others } = value;
  return part === undefined ? others : { ...others, [name]: part };
}

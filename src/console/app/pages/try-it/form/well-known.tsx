/** The types whose JSON is not an object of their fields. */
import type { DescMessage, JsonValue, ScalarType } from "@bufbuild/protobuf";
import { Textarea, TextInput } from "@mantine/core";
import { useState } from "react";
import { ScalarValue, type ValueProps } from "./scalar.tsx";
import { typeName } from "./type-name.ts";

const freeForm = ["Struct", "Value", "ListValue", "Any"].map((name) => `google.protobuf.${name}`);
const texts: Record<string, { placeholder: string }> = {
  "google.protobuf.Duration": { placeholder: "1.5s" },
  "google.protobuf.FieldMask": { placeholder: "name,allowedMethods" },
};
const wrapped = /^google\.protobuf\.(\w+)Value$/;
const timestamp = "google.protobuf.Timestamp";

/** The scalar of a wrapper such as google.protobuf.Int64Value. */
function scalarOf(message: DescMessage): ScalarType | undefined {
  if (!wrapped.test(message.typeName) || freeForm.includes(message.typeName)) return undefined;
  return message.fields[0]?.scalar;
}

export function isWellKnown(message: DescMessage): boolean {
  const { typeName: name } = message;
  return name === timestamp || name in texts || freeForm.includes(name) || scalarOf(message) !== undefined;
}

export function WellKnown({
  message,
  label,
  about = "",
  value,
  onChange,
}: ValueProps & { message: DescMessage }) {
  const scalar = scalarOf(message);
  if (scalar !== undefined) {
    const hint = typeName({ scalar });
    return (
      <ScalarValue
        scalar={scalar}
        hint={hint}
        label={label}
        about={about}
        value={value}
        onChange={onChange}
      />
    );
  }
  const shown = typeof value === "string" ? value : "";
  const text = texts[message.typeName];
  if (text !== undefined) {
    return (
      <TextInput
        label={label}
        description={about}
        placeholder={text.placeholder}
        value={shown}
        spellCheck={false}
        onChange={({ currentTarget }) => onChange(currentTarget.value || undefined)}
      />
    );
  }
  if (message.typeName === timestamp) {
    return <TimestampValue label={label} about={about} value={value} onChange={onChange} />;
  }
  return <FreeForm label={label} about={about} value={value} onChange={onChange} />;
}

function TimestampValue({ label, about, value, onChange }: ValueProps) {
  const date = typeof value === "string" && value !== "" ? new Date(value) : undefined;
  const local =
    date === undefined
      ? ""
      : new Date(date.getTime() - date.getTimezoneOffset() * 60_000).toISOString().slice(0, 19);
  return (
    <TextInput
      type="datetime-local"
      step={1}
      label={label}
      description={about}
      value={local}
      onChange={({ currentTarget }) =>
        onChange(currentTarget.value === "" ? undefined : new Date(currentTarget.value).toISOString())
      }
    />
  );
}

/** Any JSON. What is not JSON yet stays in the field alone. */
function FreeForm({ label, about, value, onChange }: ValueProps) {
  const [typed, setTyped] = useState(() => (value === undefined ? "" : JSON.stringify(value, null, 2)));
  const [isBad, setBad] = useState(false);
  return (
    <Textarea
      label={label}
      description={about}
      placeholder="{ }"
      value={typed}
      autosize
      minRows={2}
      spellCheck={false}
      classNames={{ input: "mono" }}
      error={isBad && "Not JSON yet: it is not part of the call."}
      onChange={({ currentTarget }) => {
        setTyped(currentTarget.value);
        const parsed = parse(currentTarget.value);
        setBad(parsed === undefined && currentTarget.value.trim() !== "");
        onChange(parsed);
      }}
    />
  );
}

function parse(text: string): JsonValue | undefined {
  try {
    return JSON.parse(text) as JsonValue;
  } catch {
    return undefined;
  }
}

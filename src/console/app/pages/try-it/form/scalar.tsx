/** Numbers, texts, switches and the values of enums. */
import { type DescEnum, type JsonValue, ScalarType } from "@bufbuild/protobuf";
import { Select, Textarea, TextInput } from "@mantine/core";

export interface ValueProps {
  readonly label: string;
  /** What the proto file says about it. */
  readonly about?: string;
  readonly value: JsonValue | undefined;
  readonly onChange: (value: JsonValue | undefined) => void;
}

const small = new Set([
  ScalarType.INT32,
  ScalarType.UINT32,
  ScalarType.SINT32,
  ScalarType.FIXED32,
  ScalarType.SFIXED32,
]);
const fractional = new Set([ScalarType.DOUBLE, ScalarType.FLOAT]);

interface ScalarValueProps extends ValueProps {
  readonly scalar: ScalarType;
  readonly hint: string;
}

export function ScalarValue({ scalar, label, hint, about, value, onChange }: ScalarValueProps) {
  if (scalar === ScalarType.BOOL) {
    return (
      <Select
        label={label}
        description={about}
        placeholder="Not set"
        data={["true", "false"]}
        value={value === undefined || value === "" ? null : String(value)}
        clearable
        onChange={(next) => onChange(next === null ? undefined : next === "true")}
      />
    );
  }
  const shown = typeof value === "string" || typeof value === "number" ? String(value) : "";
  const change = (text: string) => onChange(text === "" ? undefined : jsonOf(scalar, text));
  if (scalar === ScalarType.STRING) {
    return (
      <Textarea
        label={label}
        description={about}
        value={shown}
        autosize
        minRows={1}
        maxRows={10}
        onChange={({ currentTarget }) => change(currentTarget.value)}
      />
    );
  }
  return (
    <TextInput
      label={label}
      description={about}
      placeholder={scalar === ScalarType.BYTES ? "bytes, in base64" : hint}
      inputMode={scalar === ScalarType.BYTES ? "text" : "decimal"}
      value={shown}
      spellCheck={false}
      onChange={({ currentTarget }) => change(currentTarget.value)}
    />
  );
}

/** A number where JSON can hold it exactly, else the text. */
function jsonOf(scalar: ScalarType, text: string): JsonValue {
  const number = Number(text);
  const isNumber =
    (small.has(scalar) || fractional.has(scalar)) && String(number) === text && Number.isFinite(number);
  return isNumber ? number : text;
}

export function EnumValue({ type, label, about, value, onChange }: ValueProps & { type: DescEnum }) {
  return (
    <Select
      label={label}
      description={about}
      placeholder="Not set"
      data={type.values.map(({ name }) => name)}
      value={typeof value === "string" && value !== "" ? value : null}
      searchable
      clearable
      onChange={(next) => onChange(next ?? undefined)}
    />
  );
}

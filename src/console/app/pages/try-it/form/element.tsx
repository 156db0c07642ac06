import type { DescEnum, DescMessage, JsonValue, ScalarType } from "@bufbuild/protobuf";
import { NestedMessage } from "./nested-message.tsx";
import { EnumValue, ScalarValue } from "./scalar.tsx";
import { typeName } from "./type-name.ts";

interface ElementProps {
  /** Exactly one of them is there. */
  readonly type: {
    readonly scalar?: ScalarType | undefined;
    readonly enum?: DescEnum | undefined;
    readonly message?: DescMessage | undefined;
  };
  readonly label: string;
  readonly value: JsonValue;
  readonly onChange: (value: JsonValue) => void;
}

/** An item of a list or the value of a map's entry: it is always there, if only as what is blank. */
export function Element({ type, label, value, onChange }: ElementProps) {
  if (type.message !== undefined) {
    return (
      <NestedMessage
        message={type.message}
        label={label}
        value={value}
        onChange={(next) => onChange(next ?? {})}
        isFixed
      />
    );
  }
  const change = (next: JsonValue | undefined) => onChange(next ?? "");
  if (type.enum !== undefined)
    return <EnumValue type={type.enum} label={label} value={value} onChange={change} />;
  if (type.scalar === undefined) return null;
  return (
    <ScalarValue scalar={type.scalar} hint={typeName(type)} label={label} value={value} onChange={change} />
  );
}

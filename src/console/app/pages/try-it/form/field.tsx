import type { DescField, JsonValue } from "@bufbuild/protobuf";
import { commentOf } from "../comments.ts";
import { Entries } from "./entries.tsx";
import { Items } from "./items.tsx";
import { NestedMessage } from "./nested-message.tsx";
import { EnumValue, ScalarValue } from "./scalar.tsx";
import { typeName } from "./type-name.ts";

export interface FieldProps {
  readonly field: DescField;
  /** Undefined: not set. */
  readonly value: JsonValue | undefined;
  readonly onChange: (value: JsonValue | undefined) => void;
}

/** One field of a message, whatever its kind. */
export function Field({ field, value, onChange }: FieldProps) {
  const about = commentOf(field);
  switch (field.fieldKind) {
    case "list":
      return <Items field={field} about={about} value={value} onChange={onChange} />;
    case "map":
      return <Entries field={field} about={about} value={value} onChange={onChange} />;
    case "message":
      return (
        <NestedMessage
          message={field.message}
          label={field.name}
          about={about}
          value={value}
          onChange={onChange}
        />
      );
    case "enum":
      return (
        <EnumValue type={field.enum} label={field.name} about={about} value={value} onChange={onChange} />
      );
    default:
      return (
        <ScalarValue
          scalar={field.scalar}
          label={field.name}
          hint={typeName(field)}
          about={about}
          value={value}
          onChange={onChange}
        />
      );
  }
}

import { type DescEnum, type DescField, type DescMessage, ScalarType } from "@bufbuild/protobuf";

interface Typed {
  readonly scalar?: ScalarType | undefined;
  readonly enum?: DescEnum | undefined;
  readonly message?: DescMessage | undefined;
}

/** As a proto file spells the type: "int64", "Timestamp". */
export function typeName({ scalar, enum: enumeration, message }: Typed | DescField): string {
  if (scalar !== undefined) return ScalarType[scalar].toLowerCase();
  return enumeration?.name ?? message?.name ?? "";
}

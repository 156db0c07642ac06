/** A message to begin with, in protobuf's JSON form: what a first call needs, as far as its type tells. */
import {
  type DescField,
  type DescMessage,
  type JsonObject,
  type JsonValue,
  ScalarType,
} from "@bufbuild/protobuf";

/** Each number is 1, each text empty, each enum its first value that says something; what may be left out is. */
export function exampleMessage({ fields }: DescMessage): JsonObject {
  const values = fields.map((field) => [field.jsonName, exampleValue(field)] as const);
  return Object.fromEntries(values.filter(([, value]) => value !== undefined)) as JsonObject;
}

function exampleValue(field: DescField): JsonValue | undefined {
  if (field.oneof !== undefined || field.proto.proto3Optional) return undefined;
  if (field.fieldKind === "enum") {
    const { values } = field.enum;
    return (values.find(({ number }) => number !== 0) ?? values[0])?.name;
  }
  return field.fieldKind === "scalar" ? examples[field.scalar] : undefined;
}

const examples: Partial<Record<ScalarType, JsonValue>> = {
  [ScalarType.STRING]: "",
  // JSON has 64 bits as text.
  [ScalarType.INT64]: "1",
  [ScalarType.UINT64]: "1",
  [ScalarType.SINT64]: "1",
  [ScalarType.FIXED64]: "1",
  [ScalarType.SFIXED64]: "1",
  [ScalarType.INT32]: 1,
  [ScalarType.UINT32]: 1,
  [ScalarType.SINT32]: 1,
  [ScalarType.FIXED32]: 1,
  [ScalarType.SFIXED32]: 1,
  [ScalarType.DOUBLE]: 1,
  [ScalarType.FLOAT]: 1,
};

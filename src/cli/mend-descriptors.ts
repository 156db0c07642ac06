/** Descriptors as servers on proto-loader send them, made as compilers write them. */
import { protoCamelCase } from "@bufbuild/protobuf/reflect";
import type { DescriptorProto, FieldDescriptorProto, FileDescriptorProto } from "@bufbuild/protobuf/wkt";

/**
 * Writes every type name of some files with its package and a leading dot, and every field's name
 * in JSON. The files know all types that they name.
 */
export function mendDescriptors(files: readonly FileDescriptorProto[]): void {
  const known = new Set(files.flatMap((file) => [...typesOf(file.package, file)]));
  for (const file of files) {
    const inScope = (scope: string) => (name: string) => qualify(name, scope, known);
    mendFields(file.extension, inScope(file.package));
    for (const message of file.messageType) mendMessage(message, join(file.package, message.name), inScope);
    for (const service of file.service) {
      const find = inScope(join(file.package, service.name));
      for (const method of service.method) {
        method.inputType = find(method.inputType);
        method.outputType = find(method.outputType);
      }
    }
  }
}

function mendMessage(
  message: DescriptorProto,
  scope: string,
  inScope: (scope: string) => (name: string) => string,
): void {
  mendFields([...message.field, ...message.extension], inScope(scope));
  for (const nested of message.nestedType) mendMessage(nested, join(scope, nested.name), inScope);
}

function mendFields(fields: readonly FieldDescriptorProto[], find: (name: string) => string): void {
  for (const field of fields) {
    field.typeName = find(field.typeName);
    field.extendee = find(field.extendee);
    field.jsonName ||= protoCamelCase(field.name);
  }
}

/** Looks from the innermost scope outwards, as protobuf does; what is not found is left. */
function qualify(name: string, scope: string, known: ReadonlySet<string>): string {
  if (name === "" || name.startsWith(".")) return name;
  for (let at = scope; ; at = at.slice(0, Math.max(0, at.lastIndexOf(".")))) {
    const full = join(at, name);
    if (known.has(full)) return `.${full}`;
    if (at === "") return name;
  }
}

/** Full names of all messages and enums. */
function* typesOf(
  scope: string,
  holder: Pick<DescriptorProto, "enumType"> & {
    messageType?: DescriptorProto[];
    nestedType?: DescriptorProto[];
  },
): Generator<string> {
  for (const { name } of holder.enumType) yield join(scope, name);
  for (const message of holder.messageType ?? holder.nestedType ?? []) {
    yield join(scope, message.name);
    yield* typesOf(join(scope, message.name), message);
  }
}

function join(scope: string, name: string): string {
  return scope === "" ? name : `${scope}.${name}`;
}

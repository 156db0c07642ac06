/** What the proto files say about a message and its fields, where their comments came with them. */
import type { DescField, DescMessage } from "@bufbuild/protobuf";

// Field numbers of FileDescriptorProto and DescriptorProto, of which paths to comments are made.
const messageInFile = 4;
const messageInMessage = 3;
const fieldInMessage = 2;

function pathOf(message: DescMessage): number[] {
  const { parent, file } = message;
  if (parent === undefined) return [messageInFile, file.messages.indexOf(message)];
  // Entries of maps are nested messages too, and no descriptors of their own.
  return [...pathOf(parent), messageInMessage, parent.proto.nestedType.indexOf(message.proto)];
}

/** The comment above a field; empty where there is none. */
export function commentOf(field: DescField): string {
  const message = field.parent;
  const path = [...pathOf(message), fieldInMessage, message.proto.field.indexOf(field.proto)].join();
  const found = message.file.proto.sourceCodeInfo?.location.find((location) => location.path.join() === path);
  return (found?.leadingComments ?? "").trim().replace(/\s*\n\s*/g, " ");
}

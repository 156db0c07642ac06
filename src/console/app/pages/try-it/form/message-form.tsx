import { MessageFields } from "./message-fields.tsx";
import { MessageFieldsContext, type MessageFieldsProps } from "./recursion.ts";

/** A form for any message, made from its descriptor. Its value is the message in protobuf's JSON form. */
export function MessageForm(props: MessageFieldsProps) {
  return (
    <MessageFieldsContext value={MessageFields}>
      <MessageFields {...props} />
    </MessageFieldsContext>
  );
}

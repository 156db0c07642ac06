import type { DescMessage, JsonObject } from "@bufbuild/protobuf";
import { type ComponentType, createContext } from "react";

export interface MessageFieldsProps {
  readonly message: DescMessage;
  readonly value: JsonObject;
  readonly onChange: (value: JsonObject) => void;
}

/** The fields of a message, for a message within it: without it the files would import each other. */
export const MessageFieldsContext = createContext<ComponentType<MessageFieldsProps>>(() => null);

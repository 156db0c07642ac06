/** A message in a message: a form of its own, or what is usual for a well-known type. */
import type { DescMessage, JsonObject, JsonValue } from "@bufbuild/protobuf";
import { Button } from "@mantine/core";
import { IconPlus } from "@tabler/icons-react";
import { useContext } from "react";
import classes from "./form.module.css";
import { MessageFieldsContext } from "./recursion.ts";
import type { ValueProps } from "./scalar.tsx";
import { isWellKnown, WellKnown } from "./well-known.tsx";

interface NestedMessageProps extends ValueProps {
  readonly message: DescMessage;
  /** It is there in any case, as an item of a list is. */
  readonly isFixed?: boolean;
}

export function NestedMessage({
  message,
  label,
  about = "",
  value,
  onChange,
  isFixed = false,
}: NestedMessageProps) {
  const MessageFields = useContext(MessageFieldsContext);
  if (isWellKnown(message)) {
    return <WellKnown message={message} label={label} about={about} value={value} onChange={onChange} />;
  }
  const isSet = isFixed || value !== undefined;
  return (
    <fieldset className={classes.group}>
      <legend>
        {label} <span className="dim">{message.name}</span>
      </legend>
      {about !== "" && <p className={classes.about}>{about}</p>}
      {isSet && <MessageFields message={message} value={objectOf(value)} onChange={onChange} />}
      {!isFixed &&
        (isSet ? (
          <Button variant="subtle" color="gray" size="xs" onClick={() => onChange(undefined)}>
            Unset {label}
          </Button>
        ) : (
          <Button
            variant="default"
            size="xs"
            leftSection={<IconPlus size={14} aria-hidden />}
            onClick={() => onChange({})}
          >
            Set {label}
          </Button>
        ))}
    </fieldset>
  );
}

function objectOf(value: JsonValue | undefined): JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? value : {};
}

import { Select } from "@mantine/core";
import { type ListMethodsResponse, MethodKind } from "../../../../gen/latchkey/v1/server_service_pb.js";

interface MethodChooserProps {
  readonly methods: ListMethodsResponse | undefined;
  /** "SERVICE/METHOD". */
  readonly value: string | undefined;
  readonly onChange: (method: string | undefined) => void;
}

/** Chooses one of the methods that are mounted here and that a browser can call. */
export function MethodChooser({ methods, value, onChange }: MethodChooserProps) {
  const data = (methods?.services ?? []).map(({ name, methods: all }) => ({
    group: name,
    items: all
      .filter(({ kind }) => kind === MethodKind.UNARY || kind === MethodKind.SERVER_STREAMING)
      .map((method) => ({
        value: `${name}/${method.name}`,
        label: method.kind === MethodKind.SERVER_STREAMING ? `${method.name} (stream)` : method.name,
      })),
  }));
  return (
    <Select
      label="Method"
      placeholder="Choose a method"
      data={data.filter(({ items }) => items.length > 0)}
      value={value ?? null}
      onChange={(next) => onChange(next ?? undefined)}
      searchable
      maxDropdownHeight={360}
      nothingFoundMessage="No method of this server matches"
      comboboxProps={{ shadow: "md", radius: "md" }}
    />
  );
}

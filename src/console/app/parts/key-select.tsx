import { useQuery } from "@connectrpc/connect-query";
import { Select } from "@mantine/core";
import { useDebouncedValue } from "@mantine/hooks";
import { keepPreviousData } from "@tanstack/react-query";
import { useState } from "react";
import { ApiKeyService } from "../../../gen/latchkey/v1/api_key_service_pb.js";
import { useKeysById } from "./names.ts";
import { withoutToken } from "./token-start.ts";

interface KeySelectProps {
  /** A key's id. */
  readonly value: string | undefined;
  readonly onChange: (id: string | undefined) => void;
}

/** Finds a key by its name, start or user, or by a token, of which it takes the start. */
export function KeySelect({ value, onChange }: KeySelectProps) {
  const [typed, setTyped] = useState("");
  const [search] = useDebouncedValue(typed, 200);
  const chosen = useKeysById(value === undefined ? [] : [value]);
  const name = value === undefined ? "" : (chosen.get(value)?.name ?? value);
  const { data } = useQuery(
    ApiKeyService.method.listApiKeys,
    { search: search === name ? "" : search, pageSize: 20 },
    { placeholderData: keepPreviousData },
  );
  const keys = (data?.apiKeys ?? []).map((key) => ({ value: key.id, label: key.name, of: key }));
  const options =
    keys.some((key) => key.value === value) || value === undefined ? keys : [{ value, label: name }, ...keys];
  return (
    <Select
      aria-label="Key"
      placeholder="Key"
      data={options}
      value={value ?? null}
      onChange={(next) => onChange(next ?? undefined)}
      searchable
      clearable
      searchValue={typed}
      onSearchChange={(next) => setTyped(withoutToken(next))}
      filter={({ options: all }) => all}
      renderOption={({ option }) => {
        const key = keys.find((each) => each.value === option.value)?.of;
        return (
          <div>
            <div>{option.label}</div>
            {key !== undefined && (
              <div className="dim">
                <code>{key.start}…</code> of {key.username}
              </div>
            )}
          </div>
        );
      }}
      nothingFoundMessage="No key has this name, start or user"
      comboboxProps={{ shadow: "md", radius: "md", width: "max-content", position: "bottom-start" }}
    />
  );
}

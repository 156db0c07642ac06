import { useQuery } from "@connectrpc/connect-query";
import { Loader, Select, type SelectProps } from "@mantine/core";
import { useDebouncedValue } from "@mantine/hooks";
import { keepPreviousData } from "@tanstack/react-query";
import { useState } from "react";
import { UserAdminService } from "../../../gen/latchkey/v1/user_admin_service_pb.js";
import { useUsersById } from "./names.ts";
import { withoutToken } from "./token-start.ts";

interface UserSelectProps extends Omit<SelectProps, "data" | "value" | "onChange" | "label" | "multiple"> {
  readonly label: string;
  /** A user's id in digits. */
  readonly value: string | undefined;
  readonly onChange: (id: string | undefined) => void;
  /** Show the label above and not only to screen readers. */
  readonly labelled?: boolean;
}

/** Finds a user by name or email. For staff: others cannot list users. */
export function UserSelect({ label, value, onChange, labelled = false, ...others }: UserSelectProps) {
  const [typed, setTyped] = useState("");
  const [search] = useDebouncedValue(typed, 200);
  const chosen = useUsersById(value === undefined ? [] : [BigInt(value)]);
  const name = value === undefined ? "" : (chosen.get(BigInt(value))?.username ?? `User ${value}`);
  const { data, isFetching } = useQuery(
    UserAdminService.method.listUsers,
    { search: search === name ? "" : search, pageSize: 20 },
    { placeholderData: keepPreviousData },
  );
  const users = (data?.users ?? []).map(({ id, username }) => ({ value: String(id), label: username }));
  if (value !== undefined && !users.some((user) => user.value === value))
    users.unshift({ value, label: name });
  return (
    <Select
      {...others}
      {...(labelled ? { label } : { "aria-label": label, placeholder: label })}
      data={users}
      value={value ?? null}
      onChange={(next) => onChange(next ?? undefined)}
      searchable
      searchValue={typed}
      onSearchChange={(next) => setTyped(withoutToken(next))}
      filter={({ options }) => options}
      nothingFoundMessage="No user has this name or email"
      rightSection={isFetching && typed !== name ? <Loader size={14} /> : undefined}
      comboboxProps={{ shadow: "md", radius: "md" }}
    />
  );
}

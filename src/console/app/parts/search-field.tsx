import { CloseButton, TextInput } from "@mantine/core";
import { useDebouncedCallback } from "@mantine/hooks";
import { IconSearch } from "@tabler/icons-react";
import { useRouter } from "@tanstack/react-router";
import { useEffect, useState } from "react";
import { withoutToken } from "./token-start.ts";

interface SearchFieldProps {
  readonly label: string;
  /** As the URL has it. */
  readonly value: string | undefined;
  /** Called once typing has paused. */
  readonly onChange: (value: string | undefined) => void;
  readonly placeholder?: string;
  readonly className?: string | undefined;
}

/** A text filter; / moves into it. A token that is pasted is cut to its start. */
export function SearchField({ label, value = "", onChange, placeholder, className }: SearchFieldProps) {
  const [typed, setTyped] = useState(value);
  const router = useRouter();
  // Where the field stands: as soon as one leaves, the router's own location is the next page, however long that loads.
  const [pathname] = useState(router.latestLocation.pathname);
  const send = useDebouncedCallback((next: string) => {
    // What was typed last must not hold back, or lead back, who is on the way to another page.
    if (router.latestLocation.pathname === pathname) onChange(next.trim() || undefined);
  }, 250);
  // The URL changed otherwise: back, forward, filters cleared.
  useEffect(() => setTyped((now) => (now.trim() === value ? now : value)), [value]);
  return (
    <TextInput
      type="search"
      aria-label={label}
      placeholder={placeholder ?? label}
      value={typed}
      maxLength={200}
      className={className ?? ""}
      leftSection={<IconSearch size={15} aria-hidden />}
      rightSection={
        typed === "" ? undefined : (
          <CloseButton
            size="sm"
            aria-label="Clear the search"
            onClick={() => {
              setTyped("");
              onChange(undefined);
            }}
          />
        )
      }
      onChange={({ currentTarget }) => {
        const next = withoutToken(currentTarget.value);
        setTyped(next);
        send(next);
      }}
    />
  );
}

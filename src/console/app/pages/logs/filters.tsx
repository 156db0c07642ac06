/** The filters of the request log: the common ones in the bar, the others behind a button. */
import { Button, Checkbox, Group, Popover, Select, Stack, TextInput } from "@mantine/core";
import { IconAdjustmentsHorizontal } from "@tabler/icons-react";
import { Choice } from "../../parts/choice.tsx";
import { KeySelect } from "../../parts/key-select.tsx";
import { SearchField } from "../../parts/search-field.tsx";
import { TimeFilter } from "../../parts/time-filter.tsx";
import { useMethods } from "../../parts/use-methods.ts";
import { UserSelect } from "../../parts/user-select.tsx";
import { codes } from "../../parts/words.ts";
import { useMe } from "../../session/state.ts";
import { type LogsSearch, protocolOptions, reasonOptions } from "./search.ts";

interface FiltersProps {
  readonly search: LogsSearch;
  readonly change: (next: Partial<LogsSearch>) => void;
}

const codeOptions = Object.fromEntries(codes.map((code) => [code, code])) as Record<
  (typeof codes)[number],
  string
>;

export function Filters({ search, change }: FiltersProps) {
  const { isStaff } = useMe();
  const isLive = search.live === "1";
  return (
    <>
      <SearchField label="Search error messages" value={search.text} onChange={(text) => change({ text })} />
      {!isLive && (
        <TimeFilter
          range={search.range}
          from={search.from}
          to={search.to}
          withRanges
          onChange={({ range, from, to }) => change({ range, from, to })}
        />
      )}
      <MethodSelect search={search} change={change} />
      <Choice
        label="Code"
        options={codeOptions}
        value={search.code}
        onChange={(code) => change({ code })}
        clearable
      />
      <KeySelect value={search.key} onChange={(key) => change({ key })} />
      {isStaff && (
        <UserSelect label="User" value={search.user} onChange={(user) => change({ user })} clearable />
      )}
      <MoreFilters search={search} change={change} />
    </>
  );
}

/** A service, or one method of it. What is not mounted here can still be in the URL. */
function MethodSelect({ search: { service, method }, change }: FiltersProps) {
  const { data } = useMethods();
  const value =
    service === undefined ? (method ?? null) : method === undefined ? service : `${service}/${method}`;
  const groups = (data?.services ?? []).map(({ name, methods }) => ({
    group: name,
    items: [
      { value: name, label: `All of ${name}` },
      ...methods.map((each) => ({ value: `${name}/${each.name}`, label: each.name })),
    ],
  }));
  const isListed = value === null || groups.some(({ items }) => items.some((item) => item.value === value));
  return (
    <Select
      aria-label="Method"
      placeholder="Method"
      data={isListed ? groups : [{ value, label: value }, ...groups]}
      value={value}
      onChange={(next) => {
        const [nextService, nextMethod] = next?.split("/") ?? [];
        change({ service: nextService, method: nextMethod });
      }}
      searchable
      clearable
      comboboxProps={{ shadow: "md", radius: "md", width: "max-content", position: "bottom-start" }}
    />
  );
}

function MoreFilters({ search, change }: FiltersProps) {
  const { errors, reason, min, max, protocol, address } = search;
  const set = [errors, search.console, reason, min, max, protocol, address].filter(
    (value) => value !== undefined,
  ).length;
  return (
    <Popover position="bottom-start" trapFocus width={340}>
      <Popover.Target>
        <Button variant="default" leftSection={<IconAdjustmentsHorizontal size={15} aria-hidden />}>
          {set === 0 ? "More filters" : `More filters (${set})`}
        </Button>
      </Popover.Target>
      <Popover.Dropdown aria-label="More filters">
        <Stack gap="sm">
          <Checkbox
            size="sm"
            label="Failures only"
            checked={errors === "1"}
            onChange={({ currentTarget }) => change({ errors: currentTarget.checked ? "1" : undefined })}
          />
          <Checkbox
            size="sm"
            label="The console's own calls too"
            checked={search.console === "1"}
            onChange={({ currentTarget }) => change({ console: currentTarget.checked ? "1" : undefined })}
          />
          <Choice
            label="Denial reason"
            labelled
            placeholder="Any, or none"
            options={reasonOptions}
            value={reason}
            onChange={(next) => change({ reason: next })}
            clearable
            comboboxProps={{ withinPortal: false }}
          />
          <Group grow gap="sm" wrap="nowrap">
            <Milliseconds label="Took at least (ms)" value={min} onChange={(next) => change({ min: next })} />
            <Milliseconds label="At most (ms)" value={max} onChange={(next) => change({ max: next })} />
          </Group>
          <Choice
            label="Protocol"
            labelled
            placeholder="Any"
            options={protocolOptions}
            value={protocol}
            onChange={(next) => change({ protocol: next })}
            clearable
            comboboxProps={{ withinPortal: false }}
          />
          <TextInput
            label="Address"
            placeholder="203.0.113.7 or 203.0.113.0/24"
            defaultValue={address ?? ""}
            key={address}
            onBlur={({ currentTarget }) => change({ address: currentTarget.value.trim() || undefined })}
            onKeyDown={({ key, currentTarget }) => {
              if (key === "Enter") change({ address: currentTarget.value.trim() || undefined });
            }}
          />
        </Stack>
      </Popover.Dropdown>
    </Popover>
  );
}

interface MillisecondsProps {
  readonly label: string;
  readonly value: string | undefined;
  readonly onChange: (value: string | undefined) => void;
}

function Milliseconds({ label, value, onChange }: MillisecondsProps) {
  return (
    <TextInput
      key={value}
      type="number"
      min={0}
      label={label}
      defaultValue={value ?? ""}
      onBlur={({ currentTarget }) => onChange(currentTarget.value || undefined)}
      onKeyDown={({ key, currentTarget }) => {
        if (key === "Enter") onChange(currentTarget.value || undefined);
      }}
    />
  );
}

import { Button, Popover, Stack, TextInput } from "@mantine/core";
import { IconCalendar } from "@tabler/icons-react";

interface TimeFilterProps {
  /** As datetime-local fields have them. */
  readonly from: string | undefined;
  readonly to: string | undefined;
  readonly onChange: (times: { from: string | undefined } | { to: string | undefined }) => void;
}

export function TimeFilter({ from, to, onChange }: TimeFilterProps) {
  const isSet = from !== undefined || to !== undefined;
  return (
    <Popover position="bottom-start" trapFocus>
      <Popover.Target>
        <Button variant="default" leftSection={<IconCalendar size={15} aria-hidden />}>
          {isSet ? "Time (set)" : "Any time"}
        </Button>
      </Popover.Target>
      <Popover.Dropdown aria-label="Time">
        <Stack gap="sm">
          <TextInput
            type="datetime-local"
            label="From"
            value={from ?? ""}
            onChange={({ currentTarget }) => onChange({ from: currentTarget.value || undefined })}
          />
          <TextInput
            type="datetime-local"
            label="Until"
            value={to ?? ""}
            onChange={({ currentTarget }) => onChange({ to: currentTarget.value || undefined })}
          />
        </Stack>
      </Popover.Dropdown>
    </Popover>
  );
}

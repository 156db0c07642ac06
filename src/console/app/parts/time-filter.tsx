/** When things happened: a range that ends now, a day, or from one moment until another. */
import { Button, Popover, Stack, TextInput } from "@mantine/core";
import { IconCalendar } from "@tabler/icons-react";
import { dayAgo, localTime, momentAt } from "./moment.ts";
import { type Range, ranges, rangeWords } from "./range.ts";
import classes from "./time-filter.module.css";

interface Times {
  readonly range?: Range | undefined;
  /** Moments, see moment.ts. */
  readonly from?: string | undefined;
  readonly to?: string | undefined;
}

interface TimeFilterProps extends Times {
  /** Ranges are offered too. */
  readonly withRanges?: boolean;
  readonly onChange: (times: Times) => void;
}

const none: Times = { from: undefined, to: undefined };

export function TimeFilter({ range, from, to, withRanges = false, onChange }: TimeFilterProps) {
  /** Whoever has no ranges must not get one into the address. */
  const change = (times: Times) => onChange(withRanges ? { range: undefined, ...times } : times);
  const isSet = range !== undefined || from !== undefined || to !== undefined;
  return (
    <Popover position="bottom-start" trapFocus width={340}>
      <Popover.Target>
        <Button variant="default" leftSection={<IconCalendar size={15} aria-hidden />}>
          {wordsOf({ range, from, to })}
        </Button>
      </Popover.Target>
      <Popover.Dropdown aria-label="Time">
        <Stack gap="sm">
          <div className={classes.presets}>
            {withRanges &&
              ranges.map((each) => (
                <Preset
                  key={each}
                  label={rangeWords[each]}
                  isOn={range === each}
                  onChoose={() => change({ ...none, range: each })}
                />
              ))}
            {Object.entries(days).map(([label, ago]) => {
              const day = dayAgo(ago);
              const isOn = from === day.from && to === day.to;
              return <Preset key={label} label={label} isOn={isOn} onChoose={() => change(day)} />;
            })}
            <Preset label="Any time" isOn={!isSet} onChoose={() => change(none)} />
          </div>
          <Moment label="From" value={from} end="begins" onChange={(next) => change({ from: next, to })} />
          <Moment label="Until" value={to} end="ends" onChange={(next) => change({ from, to: next })} />
        </Stack>
      </Popover.Dropdown>
    </Popover>
  );
}

/** By how many days ago they were. */
const days = { Today: 0, Yesterday: 1 };

interface PresetProps {
  readonly label: string;
  readonly isOn: boolean;
  readonly onChoose: () => void;
}

function Preset({ label, isOn, onChoose }: PresetProps) {
  return (
    <Button size="xs" variant={isOn ? "filled" : "default"} aria-pressed={isOn} onClick={onChoose}>
      {label}
    </Button>
  );
}

interface MomentProps {
  readonly label: string;
  readonly value: string | undefined;
  readonly end: "begins" | "ends";
  readonly onChange: (value: string | undefined) => void;
}

/** A field of its own for the time, which may stay empty. */
function Moment({ label, value, end, onChange }: MomentProps) {
  const { date, time } = localTime(value);
  return (
    <div className={classes.moment}>
      <TextInput
        type="date"
        label={label}
        value={date}
        // Without the day there is no moment.
        onChange={({ currentTarget: { value: next } }) =>
          onChange(next === "" ? undefined : momentAt({ date: next, time }, end))
        }
      />
      <TextInput
        type="time"
        aria-label={`${label}, time`}
        value={time}
        onChange={({ currentTarget }) => onChange(momentAt({ date, time: currentTarget.value }, end))}
      />
    </div>
  );
}

const shown = new Intl.DateTimeFormat(undefined, {
  month: "short",
  day: "numeric",
  hour: "2-digit",
  minute: "2-digit",
  hourCycle: "h23",
});

function wordsOf({ range, from, to }: Times): string {
  if (range !== undefined) return `Last ${rangeWords[range]}`;
  if (from === undefined && to === undefined) return "Any time";
  for (const [label, ago] of Object.entries(days)) {
    const day = dayAgo(ago);
    if (from === day.from && to === day.to) return label;
  }
  if (from === undefined) return `Until ${shown.format(new Date(to ?? ""))}`;
  if (to === undefined) return `From ${shown.format(new Date(from))}`;
  return shown.formatRange(new Date(from), new Date(to));
}

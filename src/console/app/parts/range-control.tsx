import { SegmentedControl } from "@mantine/core";
import { type Range, ranges, rangeWords } from "./range.ts";
import classes from "./range-control.module.css";

/** Chooses how far back to look. */
export function RangeControl({ value, onChange }: { value: Range; onChange: (range: Range) => void }) {
  return (
    <SegmentedControl
      className={classes.control ?? ""}
      size="xs"
      aria-label="Time range"
      value={value}
      onChange={(next) => onChange(next as Range)}
      data={ranges.map((range) => ({
        value: range,
        label: (
          <>
            <span aria-hidden>{range}</span>
            <span className="visually-hidden">{rangeWords[range]}</span>
          </>
        ),
      }))}
    />
  );
}

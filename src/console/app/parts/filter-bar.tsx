import { Button } from "@mantine/core";
import type { ReactNode } from "react";
import classes from "./filter-bar.module.css";

interface FilterBarProps {
  readonly children: ReactNode;
  /** Shown while some filter is set. */
  readonly onClear?: (() => void) | undefined;
  /** At the end of the bar. */
  readonly end?: ReactNode;
}

/** Filters in a row; each is as wide as it needs. */
export function FilterBar({ children, onClear, end }: FilterBarProps) {
  return (
    <search className={classes.bar}>
      {children}
      {onClear !== undefined && (
        <Button variant="subtle" color="gray" onClick={onClear}>
          Clear filters
        </Button>
      )}
      {end !== undefined && <div className={classes.end}>{end}</div>}
    </search>
  );
}

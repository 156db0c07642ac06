import { Button } from "@mantine/core";
import { errorText } from "../../parts/error-text.ts";
import { formatCount } from "../../parts/format.ts";
import classes from "./logs.module.css";
import type { Tail } from "./use-tail.ts";

interface TailBarProps {
  readonly tail: Tail;
  readonly isPaused: boolean;
  readonly onPause: (isPaused: boolean) => void;
}

/** Whether the tail follows, what it left out, and the button that holds it. */
export function TailBar({ tail, isPaused, onPause }: TailBarProps) {
  const { rows, waiting, skipped, error } = tail;
  const isOn = rows !== undefined && error === undefined && !isPaused;
  const words =
    error !== undefined
      ? errorText(error)
      : rows === undefined
        ? "Connecting…"
        : isPaused
          ? `Paused: ${waiting === 1 ? "1 new call waits" : `${formatCount(waiting)} new calls wait`}`
          : "Following all calls as they end";
  return (
    <div className={classes.tail}>
      <span className={classes.state} role="status">
        <span className={classes.dot} data-on={isOn} aria-hidden />
        {words}
        {skipped > 0n && (
          <span className="dim">· {formatCount(skipped)} left out, being too many at once</span>
        )}
      </span>
      <Button variant="default" size="xs" onClick={() => onPause(!isPaused)}>
        {isPaused ? "Resume" : "Pause"}
      </Button>
    </div>
  );
}

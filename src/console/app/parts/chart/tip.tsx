import classes from "./chart.module.css";
import type { Line } from "./options.ts";

interface TipProps {
  /** Seconds since 1970. */
  readonly time: number;
  /** Where the moment is, in pixels from the chart's left. */
  readonly left: number;
  readonly lines: readonly Line[];
  readonly index: number;
  readonly format: (value: number) => string;
}

const moment = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });

/** The values at one moment. */
export function Tip({ time, left, lines, index, format }: TipProps) {
  return (
    <div className={classes.tip} style={{ "--left": `${left}px` } as React.CSSProperties} aria-live="polite">
      <div className={classes.when}>{moment.format(time * 1_000)}</div>
      {lines.map(({ label, color, values }) => {
        const value = values[index];
        return (
          <div key={label} className={classes.value}>
            <span className={classes.swatch} style={{ background: `var(${color})` }} aria-hidden />
            <span>{label}</span>
            <span className="num">{value === null || value === undefined ? "–" : format(value)}</span>
          </div>
        );
      })}
    </div>
  );
}

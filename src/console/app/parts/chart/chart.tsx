/** Lines over time, smooth with thousands of points; moved along by pointer or arrow keys. */
import { useComputedColorScheme } from "@mantine/core";
import { type KeyboardEvent, useEffect, useRef, useState } from "react";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import classes from "./chart.module.css";
import { chartOptions, type Line } from "./options.ts";
import { Tip } from "./tip.tsx";

interface ChartProps {
  /** What is shown, for screen readers. */
  readonly label: string;
  /** Seconds since 1970, ascending; undefined while they load. */
  readonly times: readonly number[] | undefined;
  readonly lines: readonly Line[];
  readonly format: (value: number) => string;
  /** The values are whole numbers. */
  readonly whole?: boolean;
  readonly height?: number;
  /** What the scale reaches at least. */
  readonly top?: number;
  /** Charts of the same group show the same moment. */
  readonly group?: string;
}

const noTimes: readonly number[] = [];

export function Chart({
  label,
  times = noTimes,
  lines,
  format,
  whole = false,
  height = 220,
  top = 0,
  group,
}: ChartProps) {
  const frame = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot>(undefined);
  const [at, setAt] = useState<{ index: number; left: number }>();
  const scheme = useComputedColorScheme("light");
  const data = [times, ...lines.map(({ values }) => values)] as unknown as uPlot.AlignedData;
  const shape = lines.map((line) => `${line.label}:${line.color}:${line.area === true}`).join();
  const latest = useRef({ data, lines, format, top });
  latest.current = { data, lines, format, top };

  // biome-ignore lint/correctness/useExhaustiveDependencies: a new plot for other lines, not for other values.
  useEffect(() => {
    const element = frame.current;
    if (element === null) return;
    const made = new uPlot(
      chartOptions({
        lines: latest.current.lines,
        format: (value) => latest.current.format(value),
        top: () => latest.current.top,
        whole,
        width: element.clientWidth,
        height,
        group,
        onMove: setAt,
      }),
      latest.current.data,
      element,
    );
    plot.current = made;
    const observer = new ResizeObserver(() => made.setSize({ width: element.clientWidth, height }));
    observer.observe(element);
    return () => {
      observer.disconnect();
      made.destroy();
    };
  }, [shape, height, group, scheme]);

  // biome-ignore lint/correctness/useExhaustiveDependencies: data is made of these.
  useEffect(
    () => plot.current?.setData(latest.current.data),
    [times, top, ...lines.map(({ values }) => values)],
  );

  function onKeyDown(event: KeyboardEvent) {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    const made = plot.current;
    if (step === undefined || made === undefined || times.length === 0) return;
    event.preventDefault();
    const now = made.cursor.idx ?? (step < 0 ? times.length : -1);
    const index = Math.min(times.length - 1, Math.max(0, now + step));
    made.setCursor({ left: made.valToPos(times[index]!, "x"), top: made.over.clientHeight / 2 });
  }

  const time = at === undefined ? undefined : times[at.index];
  return (
    <div className={classes.chart}>
      <div className={classes.legend} aria-hidden>
        {lines.map((line) => (
          <span key={line.label} className={classes.key}>
            <span className={classes.swatch} style={{ background: `var(${line.color})` }} />
            {line.label}
          </span>
        ))}
      </div>
      <div
        ref={frame}
        className={classes.frame}
        style={{ height }}
        role="img"
        aria-label={label}
        // biome-ignore lint/a11y/noNoninteractiveTabindex: the arrow keys read it point by point.
        tabIndex={0}
        onKeyDown={onKeyDown}
        onBlur={() => plot.current?.setCursor({ left: -10, top: -10 })}
      />
      {at !== undefined && time !== undefined && (
        <Tip time={time} left={at.left} lines={lines} index={at.index} format={format} />
      )}
    </div>
  );
}

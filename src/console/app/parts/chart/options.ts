import type uPlot from "uplot";
import { alone } from "./alone.ts";

export interface Line {
  readonly label: string;
  /** A custom property of the theme, e.g. "--chart-1". */
  readonly color: string;
  /** One for each time; null leaves a gap. */
  readonly values: readonly (number | null)[];
  /** Fill what lies below it. */
  readonly area?: boolean;
}

interface Given {
  readonly lines: readonly Line[];
  readonly format: (value: number) => string;
  /** What the scale reaches at least. */
  readonly top: () => number;
  /** Between its values there is nothing, as with numbers of requests. */
  readonly whole: boolean;
  readonly width: number;
  readonly height: number;
  readonly group: string | undefined;
  readonly onMove: (at: { index: number; left: number } | undefined) => void;
}

const css = (name: string) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const font = () => `11px ${css("--mantine-font-family")}`;

/** 1, 2 and 5 times the powers of ten. */
const wholeSteps = Array.from({ length: 13 }, (_, power) => [1, 2, 5].map((n) => n * 10 ** power)).flat();

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const day = new Intl.DateTimeFormat(undefined, { month: "short", day: "numeric" });

/** A time of the axis; midnight is a day. */
function formatMark(seconds: number, stepS: number): string {
  const date = new Date(seconds * 1_000);
  const isMidnight = date.getHours() === 0 && date.getMinutes() === 0;
  return (stepS >= 86_400 || isMidnight ? day : clock).format(date);
}

export function chartOptions(given: Given): uPlot.Options {
  const { lines, format, top, whole, width, height, group, onMove } = given;
  const ink = css("--mantine-color-dimmed");
  const grid = { stroke: css("--chart-grid"), width: 1 };
  return {
    width,
    height,
    legend: { show: false },
    padding: [8, 20, 0, 0],
    cursor: {
      drag: { x: false, y: false },
      y: false,
      points: { size: 7 },
      ...(group === undefined ? {} : { sync: { key: group } }),
    },
    scales: {
      x: { time: true },
      y: { range: (_, __, max) => [0, (Math.max(max, top()) || 1 / 1.08) * 1.08] },
    },
    axes: [
      {
        stroke: ink,
        font: font(),
        grid: { show: false },
        ticks: { show: false },
        size: 24,
        space: 64,
        values: (_, marks, __, ___, step) => marks.map((mark) => formatMark(mark, step)),
      },
      {
        stroke: ink,
        font: font(),
        grid,
        ticks: { show: false },
        size: (_, labels) =>
          Math.max(30, 10 + 6.6 * Math.max(0, ...(labels ?? []).map((text) => text.length))),
        space: 36,
        ...(whole ? { incrs: wholeSteps } : {}),
        values: (_, marks) => marks.map(format),
      },
    ],
    series: [
      {},
      ...lines.map(({ label, color, area = false }): uPlot.Series => {
        const stroke = css(color);
        return {
          label,
          stroke,
          width: 1.5,
          points: {
            show: false,
            size: 6,
            fill: stroke,
            filter: ({ data }, index) => alone(data[index] ?? []),
          },
          ...(area ? { fill: `color-mix(in srgb, ${stroke} 12%, transparent)` } : {}),
        };
      }),
    ],
    hooks: {
      setCursor: [
        ({ cursor: { idx, left = -1 }, bbox }) => {
          const shown = idx !== null && idx !== undefined && left >= 0;
          onMove(shown ? { index: idx, left: left + bbox.left / devicePixelRatio } : undefined);
        },
      ],
    },
  };
}

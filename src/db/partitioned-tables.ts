/** Which tables are partitioned by time, into what, and for how long each keeps its rows. */

/** A table that is split by day or month of UTC, and has a default partition `<table>_default` for all other rows. */
export interface PartitionedTable {
  readonly name: string;
  /** What it is split by. */
  readonly column: "time" | "bucket";
  /** The `period_s` that all its rows have; undefined: it has no such column. Its indexes begin with it. */
  readonly periodS?: number;
  readonly unit: "day" | "month";
  /** Partitions are made from this many units before the present one … */
  readonly behind: number;
  /** … to this many after it. */
  readonly ahead: number;
  /** A partition is dropped once all its rows are older than this. */
  readonly keepDays: number;
  /**
   * What becomes of a row that is moved where there is one of its key. "none": there is
   * never one. "add": it is added to that, as the writer does. "keep": that one stays,
   * since it was folded anew from all that this one was folded from.
   */
  readonly onMoved: "none" | "add" | "keep";
  /** The primary key, in the order in which every writer locks its rows. */
  readonly key: readonly string[];
}

export interface Retention {
  readonly logRetentionDays: number;
  readonly statsRetentionDays: number;
}

/** Minutes are folded into hours and days (`usage/fold.ts`), which are what is kept for longer. */
const minutesRetentionDays = 30;

const methodKey = ["period_s", "bucket", "service", "method", "code", "denial_reason"];
const keyKey = ["api_key_id", "user_id", ...methodKey];

export function partitionedTables(retention: Retention): PartitionedTable[] {
  const minutes = {
    unit: "day",
    behind: 0,
    ahead: 7,
    keepDays: minutesRetentionDays,
    onMoved: "add",
  } as const;
  const folded = {
    unit: "month",
    // On the first of a month, the hours of the last one are still being folded.
    behind: 1,
    ahead: 2,
    keepDays: retention.statsRetentionDays,
    onMoved: "keep",
  } as const;
  const rollups = (name: string, key: readonly string[]): PartitionedTable[] => [
    { name: `${name}_minutes`, column: "bucket", periodS: 60, key, ...minutes },
    { name: `${name}_hours`, column: "bucket", periodS: 3600, key, ...folded },
    { name: `${name}_days`, column: "bucket", periodS: 86_400, key, ...folded },
  ];
  return [
    {
      name: "request_logs",
      column: "time",
      unit: "day",
      behind: 0,
      ahead: 7,
      keepDays: retention.logRetentionDays,
      onMoved: "none",
      key: ["time", "id"],
    },
    ...rollups("method_rollups", methodKey),
    ...rollups("key_rollups", keyKey),
  ];
}

/** The start of the day or month that an instant lies in; of one so many units later. Milliseconds since the epoch. */
export function unitStart(table: PartitionedTable, ms: number, later = 0): number {
  const date = new Date(ms);
  const [year, month] = [date.getUTCFullYear(), date.getUTCMonth()];
  return table.unit === "day"
    ? Date.UTC(year, month, date.getUTCDate() + later)
    : Date.UTC(year, month + later, 1);
}

/** E.g. "request_logs_20261124", "method_rollups_hours_202611": names sort as their units do. */
export function partitionName(table: PartitionedTable, ms: number): string {
  const digits = new Date(ms).toISOString().slice(0, 10).replaceAll("-", "");
  return `${table.name}_${table.unit === "day" ? digits : digits.slice(0, 6)}`;
}

/** Whether a name is one that {@link partitionName} gives. */
export function isPartitionName(table: PartitionedTable, name: string): boolean {
  return (
    name.startsWith(`${table.name}_`) &&
    (table.unit === "day" ? /^\d{8}$/ : /^\d{6}$/).test(name.slice(table.name.length + 1))
  );
}

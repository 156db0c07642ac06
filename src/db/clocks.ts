/** What time it is, for those who drop what is old: a clock that jumps must not cost rows. */
import { sql } from "drizzle-orm";
import type { Executor } from "./client.ts";

export interface Clocks {
  /** By this process' clock, as rows are written with it. */
  readonly now: Date;
  /** What is dropped is old even by this. */
  readonly earliest: Date;
}

export interface ClocksOptions {
  /** Milliseconds since the epoch; default Date.now. */
  wallMs?: () => number;
  /** Milliseconds since any time, on a clock that cannot be set; default performance.now. */
  steadyMs?: () => number;
}

const hourMs = 3_600_000;
const driftMs = 60_000;

/**
 * Creates a reader of the clocks. `earliest` is by this process' clock or the database's,
 * whichever is behind; and where this one has jumped ahead since the last reading, as it
 * does for both on one machine, by what it showed before, until the jump has stood for an hour.
 */
export function createClocks(options: ClocksOptions = {}): (db: Executor) => Promise<Clocks> {
  const wallMs = options.wallMs ?? Date.now;
  const steadyMs = options.steadyMs ?? (() => performance.now());
  let trusted = wallMs() - steadyMs();
  let jumpedAt: number | undefined;
  return async (db) => {
    const [row] = await db.execute<{ ms: number }>(
      sql`SELECT (extract(epoch FROM clock_timestamp()) * 1000)::float8 AS ms`,
    );
    const [wall, steady] = [wallMs(), steadyMs()];
    if (wall - steady > trusted + driftMs) jumpedAt ??= steady;
    else jumpedAt = undefined;
    if (jumpedAt === undefined || steady - jumpedAt > hourMs) trusted = wall - steady;
    const earliest = Math.min(wall, trusted + steady, row?.ms ?? wall);
    return { now: new Date(wall), earliest: new Date(earliest) };
  };
}

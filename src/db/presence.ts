/** Which instances there are: each says in the database that it runs, and that it stops. */
import { sql } from "drizzle-orm";
import { within } from "../within.ts";
import type { Database } from "./client.ts";
import { instances } from "./schema.ts";

/** One process that serves. */
export interface Instance {
  /** A UUID, new at each start. */
  readonly id: string;
  readonly hostname: string;
  readonly pid: number;
  readonly version: string;
  readonly startedAt: Date;
}

const intervalMs = 10_000;
/** An instance that was not seen for so long is lost: three turns, and a while for a busy database. */
export const lostAfterMs = 35_000;
const longestStopMs = 1000;

/** Says that an instance runs, at once and then every 10 s. `stop` says that it no longer does. */
export function keepPresence(
  db: Database,
  { id, hostname, pid, version, startedAt }: Instance,
  onError: (message: string, error: unknown) => void,
): { stop(): Promise<void> } {
  const told = { isDown: false };
  let turn: Promise<void> = Promise.resolve();

  async function tell(): Promise<void> {
    try {
      await db.execute(sql`
        INSERT INTO ${instances} (id, hostname, pid, version, started_at, seen_at)
        VALUES (${id}, ${hostname}, ${pid}, ${version}, ${startedAt.toISOString()}, now())
        ON CONFLICT (id) DO UPDATE SET seen_at = excluded.seen_at`);
      told.isDown = false;
    } catch (error) {
      if (!told.isDown) onError("this instance could not be listed among those that run", error);
      told.isDown = true;
    }
  }

  function tellNext(): void {
    turn = turn.then(tell);
  }
  tellNext();
  const timer = setInterval(tellNext, intervalMs);
  return {
    async stop() {
      clearInterval(timer);
      const last = turn.then(() =>
        db.execute(sql`UPDATE ${instances} SET seen_at = now(), stopped_at = now() WHERE id = ${id}`),
      );
      // It will be taken for lost.
      await within(longestStopMs, last).catch(() => {});
    },
  };
}

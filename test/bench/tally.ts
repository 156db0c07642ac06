/** The calls that one peer answered, held against those that it counted. */
import { openSql } from "../harness/postgres.ts";
import type { PeerProcess } from "./peer-process.ts";

export interface Tally {
  readonly answered: number;
  readonly begun: number;
  add(calls: { ok: number; begun: number }): void;
  /** Rejects where its database, now that it is closed, says something else. */
  check(process: PeerProcess): Promise<void>;
}

export interface Counted {
  /** By the key. */
  readonly uses: number;
  /** Log rows that say ok. */
  readonly rows: number;
  readonly allRows: number;
}

export function createTally(): Tally {
  let answered = 0;
  let begun = 0;
  return {
    get answered() {
      return answered;
    },
    get begun() {
      return begun;
    },
    add(calls) {
      answered += calls.ok;
      begun += calls.begun;
    },
    async check({ peer, protocol, databaseUrl }) {
      if (peer.countsPerCall === undefined || databaseUrl === undefined) return;
      const wrong = disagreement(peer.countsPerCall, { answered, begun }, await readCounted(databaseUrl));
      if (wrong !== undefined) throw new Error(`${peer.id} (${protocol}) ${wrong}`);
    },
  };
}

/**
 * What does not fit; undefined: all does. Calls that were begun and not answered may be counted or
 * not: nobody knows whether the server got to see them. h2load leaves none of a load that went well,
 * wrk what was on its way when it ended.
 */
export function disagreement(
  countsPerCall: 0 | 1,
  calls: { answered: number; begun: number },
  { uses, rows, allRows }: Counted,
): string | undefined {
  if (countsPerCall === 0) {
    if (uses === 0 && allRows === 0) return undefined;
    return `was to count nothing and counted ${uses} uses and ${allRows} rows`;
  }
  const { answered, begun } = calls;
  const within = (n: number) => n >= answered && n <= begun;
  // Rows that the database could not take in time are dropped, and said to be; their calls are counted.
  const isDropped = rows < answered && rows === allRows && rows > 0;
  if (within(uses) && (within(rows) || isDropped)) return undefined;
  return `answered ${answered} of ${begun} calls, counted ${uses} uses and logged ${rows} as ok`;
}

/** What a database says; its server has committed all of it. */
export async function readCounted(databaseUrl: string): Promise<Counted> {
  const sql = openSql(databaseUrl);
  try {
    const [row] = await sql<Counted[]>`
      SELECT (SELECT coalesce(sum(request_count), 0)::int FROM api_key_usage) AS uses,
        (SELECT count(*)::int FROM request_logs WHERE code = 0) AS rows,
        (SELECT count(*)::int FROM request_logs) AS "allRows"`;
    if (row === undefined) throw new Error("the counts cannot be read");
    return row;
  } finally {
    await sql.end();
  }
}

/**
 * Packs: batches of the request log that were written as they came, and how they become its rows.
 * Each is laid out once, whoever does it: it goes in the transaction that brings its rows.
 */
import { type SQL, sql } from "drizzle-orm";
import { PgDialect } from "drizzle-orm/pg-core";
import type { Database, Executor } from "../db/client.ts";
import { requestLogPacks } from "../db/schema.ts";
import { isAboutTheData, isWrongPartition, maxMisses } from "./batch-errors.ts";
import { callColumns } from "./call-columns.ts";
import { insertCalls } from "./call-rows.ts";
import type { Named } from "./columns.ts";

export interface Waiting {
  readonly rows: number;
  /** Milliseconds since the oldest and the newest pack were committed; infinite: there is none. */
  readonly oldestMs: number;
  readonly newestMs: number;
}

export interface Unpacked {
  /** Rows that were laid out; 0: the pack was divided, as Postgres refuses what it holds. */
  readonly rows: number;
  /** Rows that Postgres refuses, and that are gone. */
  readonly droppedRows: number;
}

export interface PackStore {
  /** What waits to be laid out. */
  waiting(): Promise<Waiting>;
  /** Lays out the oldest pack that nobody else is at. Undefined: there is none. */
  unpackNext(): Promise<Unpacked | undefined>;
}

/** Looks at what waits by a client of its own: a pack may be long in the making. */
export function createPackStore(db: Database, looks: Database): PackStore {
  return {
    async waiting() {
      const ageMs = (committed: SQL) =>
        sql`(extract(epoch FROM clock_timestamp() - ${committed}) * 1000)::float8`;
      const [found] = await looks.execute<{ rows: number; oldest: number | null; newest: number | null }>(sql`
        SELECT coalesce(sum(rows), 0)::float8 AS rows,
          ${ageMs(sql`min(committed_at)`)} AS oldest, ${ageMs(sql`max(committed_at)`)} AS newest
        FROM ${requestLogPacks}`);
      return {
        rows: found?.rows ?? 0,
        oldestMs: found?.oldest ?? Number.POSITIVE_INFINITY,
        newestMs: found?.newest ?? Number.POSITIVE_INFINITY,
      };
    },

    async unpackNext() {
      for (let misses = 0; ; ) {
        let taken: Taken | undefined;
        try {
          return await db.transaction(async (tx) => {
            taken = await take(tx);
            if (taken === undefined) return undefined;
            await tx._.session
              .prepareQuery(unpack, undefined, "unpack_usage", false)
              .execute({ id: taken.id });
            return { rows: taken.rows, droppedRows: 0 };
          });
        } catch (error) {
          if (isWrongPartition(error) && ++misses <= maxMisses) continue;
          if (taken === undefined || !isAboutTheData(error)) throw error;
          const { id } = taken;
          return await db.transaction((tx) => divide(tx, id));
        }
      }
    },
  };
}

interface Taken extends Record<string, unknown> {
  readonly id: string;
  readonly rows: number;
}

/** The oldest, unless somebody else has it. Held until the transaction ends. */
async function take(tx: Executor): Promise<Taken | undefined> {
  const [found] = await tx.execute<Taken>(sql`
    SELECT id, rows FROM ${requestLogPacks} ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED`);
  return found;
}

const inPack = (of: string, { name }: Named) => sql.raw(`pack.${of}_${name}`);

/**
 * Lays a pack out, whose number is the placeholder `id`. Its columns are read once, together: each look at one would
 * read all of them anew. Prepared, as planning it takes as long as laying out a hundred rows.
 */
const unpack = new PgDialect().sqlToQuery(sql`
  WITH taken AS MATERIALIZED (
    DELETE FROM ${requestLogPacks} WHERE id = ${sql.placeholder("id")}::bigint
    RETURNING instance_id, base_ms, columns || '{}'::text[] AS columns
  ), pack AS MATERIALIZED (
    SELECT instance_id, base_ms, ${sql.join(
      callColumns.map(([of, column], n) =>
        sql.raw(`columns[${n + 1}]::${column.type}[] AS ${of}_${column.name}`),
      ),
      sql`, `,
    )} FROM taken
  ), logged AS (${insertCalls({
    arrayOf: inPack,
    baseMs: sql`pack.base_ms`,
    instanceId: sql`pack.instance_id`,
    from: sql`pack`,
  })})
  SELECT count(*) FROM logged`);

/** Makes two of a pack that cannot be laid out, so that the row that is refused comes to stand alone; then it goes. */
async function divide(tx: Executor, id: string): Promise<Unpacked | undefined> {
  const [found] = await tx.execute<Taken>(sql`
    SELECT id, rows FROM ${requestLogPacks} WHERE id = ${id}::bigint FOR UPDATE SKIP LOCKED`);
  if (found === undefined) return undefined;
  if (found.rows > 1) {
    const middle = Math.ceil(found.rows / 2);
    for (const [from, to] of [
      [1, middle],
      [middle + 1, found.rows],
    ] as const) {
      await tx.execute(sql`
        INSERT INTO ${requestLogPacks} (instance_id, committed_at, rows, base_ms, columns)
        SELECT instance_id, committed_at, ${to - from + 1}::int, base_ms, ARRAY[${sql.join(
          callColumns.map(([of], n) => slice(of, n + 1, from, to)),
          sql`, `,
        )}]
        FROM ${requestLogPacks} WHERE id = ${id}::bigint`);
    }
  }
  await tx.execute(sql`DELETE FROM ${requestLogPacks} WHERE id = ${id}::bigint`);
  return { rows: 0, droppedRows: found.rows > 1 ? 0 : 1 };
}

/** A column of some of the rows. As texts, whatever they are: one of them may be what is refused. */
function slice(of: string, n: number, from: number, to: number): SQL {
  return sql.raw(of === "call" ? `((columns[${n}]::text[])[${from}:${to}])::text` : `columns[${n}]`);
}

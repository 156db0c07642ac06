/**
 * Makes a request log as large as they get, with the rollups that belong to it, for
 * `log-plans.ts` to measure on.
 *
 *   node test/bench/log-data.ts [--rows N] [--keys N] [--days N] [--users N] [--data-dir DIR]
 *
 * By default 10 million rows of 100,000 keys and 30 days until now, in an embedded
 * Postgres in a folder of its own, which is kept and used again. With DATABASE_URL, in
 * that database, which must be empty.
 *
 * Partitions are made and minutes are folded by the server's own code; rows and minutes
 * are made in SQL, since to send so many would take hours.
 */
import { parseArgs } from "node:util";
import { sql } from "drizzle-orm";
import type { Database } from "../../src/db/client.ts";
import { keepPartitions } from "../../src/db/partitions.ts";
import { foldRollups } from "../../src/usage/fold.ts";
import { foldedUntil, readProgress } from "../../src/usage/fold-store.ts";
import { dayMs, floorTo, minuteMs } from "../../src/usage/range.ts";
import {
  type BenchDatabase,
  type DataSize,
  defaultDataDir,
  fail,
  type MadeData,
  openBenchDatabase,
  readMade,
  say,
  writeMade,
} from "./database.ts";
import { makeMinutes } from "./made-rollups.ts";
import { countUsage, makeKeys, makeRows } from "./made-rows.ts";

/** Statements at once. */
const lanes = 2;
/** What only costs time while a database is filled that is thrown away if that fails. */
const settings = {
  autovacuum: "off",
  full_page_writes: "off",
  synchronous_commit: "off",
  max_wal_size: "8GB",
  work_mem: "64MB",
  maintenance_work_mem: "512MB",
};
const began = performance.now();

function tell(line: string): void {
  say(`${((performance.now() - began) / 1000).toFixed(0).padStart(5)} s  ${line}`);
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      rows: { type: "string", default: "10000000" },
      keys: { type: "string", default: "100000" },
      days: { type: "string", default: "30" },
      users: { type: "string", default: "1000" },
      "data-dir": { type: "string", default: defaultDataDir },
    },
  });
  const size = {
    rows: readCount("rows", values.rows),
    keys: readCount("keys", values.keys),
    days: readCount("days", values.days),
    users: readCount("users", values.users),
  };
  const bench = await openBenchDatabase(values["data-dir"], lanes + 1);
  try {
    tell(bench.description);
    const made = await readMade(bench.db);
    if (made !== undefined) checkMade(made, size, bench.description);
    else await makeAll(bench, size);
    await tellSizes(bench);
  } finally {
    await bench.close();
  }
}

function readCount(name: string, text: string): number {
  const n = Number(text.replaceAll("_", ""));
  if (!Number.isInteger(n) || n < 1) throw new Error(`--${name} must be a whole number, 1 or more`);
  return n;
}

/** Throws where what was made is not what is asked for. */
function checkMade(made: MadeData, size: DataSize, where: string): void {
  const differs = (Object.keys(size) as (keyof DataSize)[]).find((name) => made[name] !== size[name]);
  if (made.isWhole && differs === undefined) {
    tell(`it has what is asked for, made until ${new Date(made.endMs).toISOString()}: used again`);
    return;
  }
  const what = differs === undefined ? "is half made" : `was made with ${made[differs]} ${differs}`;
  throw new Error(`${where} ${what}: delete it, or choose another --data-dir`);
}

async function makeAll(bench: BenchDatabase, size: DataSize): Promise<void> {
  const { db } = bench;
  const [found] = await db.execute<{ any: boolean }>(
    sql`SELECT EXISTS (SELECT FROM request_logs) OR EXISTS (SELECT FROM users) AS any`,
  );
  if (found?.any) throw new Error(`${bench.description} has rows that were not made here: it is left alone`);
  const endMs = Date.now();
  const made = { ...size, startMs: endMs - size.days * dayMs, endMs, isWhole: false };
  await writeMade(db, made);
  if (bench.isOwn) await tune(bench, "SET");
  try {
    tell(`partitions of ${size.days} days, ${size.users} users, ${size.keys} keys`);
    await makePartitions(bench, made);
    await makeKeys(db, size);
    await inLanes("rows", size.days, (n) => {
      const [from = 0, to = 0] = [n, n + 1].map((day) => Math.floor((size.rows * day) / size.days));
      return makeRows(db, made, from, to);
    });
    await countUsage(db, made);
    await inLanes("minutes", size.days + 1, (n) => {
      const day = floorTo(dayMs, made.startMs) + n * dayMs;
      return makeMinutes(db, day, day + dayMs);
    });
    await fold(bench);
    tell("VACUUM ANALYZE");
    await vacuum(db);
  } finally {
    if (bench.isOwn) await tune(bench, "RESET");
  }
  await db.execute(sql`CHECKPOINT`);
  await writeMade(db, { ...made, isWhole: true });
  tell("made");
}

/** As a server has them that ran all the time. */
async function makePartitions({ db }: BenchDatabase, { startMs, endMs }: MadeData): Promise<void> {
  const options = { logRetentionDays: 30, statsRetentionDays: 400, foldedUntil };
  for (let at = startMs; ; at = Math.min(endMs, at + dayMs)) {
    const now = new Date(at);
    await keepPartitions(db, options, { now, earliest: now });
    if (at === endMs) return;
  }
}

/** As autovacuum does in time: partitions, and never the tables that they are of. */
async function vacuum(db: Database): Promise<void> {
  const [row] = await db.execute<{ names: string }>(sql`
    SELECT string_agg(oid::regclass::text, ', ') AS names FROM pg_class
    WHERE relkind = 'r' AND relnamespace = current_schema()::regnamespace`);
  await db.execute(sql`VACUUM (ANALYZE) ${sql.raw(String(row?.names))}`);
}

async function fold({ db }: BenchDatabase): Promise<void> {
  tell("folding minutes into hours and days");
  const timer = setInterval(async () => {
    const untilMs = await readProgress(db).catch(() => undefined);
    if (untilMs !== undefined) tell(`folded until ${new Date(untilMs).toISOString()}`);
  }, 30_000);
  await foldRollups(db, { now: new Date(Date.now() - minuteMs) }).finally(() => clearInterval(timer));
}

/** Runs steps 0 to `count`, some at once, in their order. */
async function inLanes(what: string, count: number, step: (n: number) => Promise<void>): Promise<void> {
  let next = 0;
  const lane = async () => {
    while (next < count) {
      const n = next++;
      await step(n);
      tell(`${what}: day ${n + 1} of ${count}`);
    }
  };
  await Promise.all(Array.from({ length: lanes }, lane));
}

async function tune({ db, client }: BenchDatabase, what: "SET" | "RESET"): Promise<void> {
  for (const [name, value] of Object.entries(settings)) {
    await client.unsafe(`ALTER SYSTEM ${what} ${name}${what === "SET" ? ` = '${value}'` : ""}`);
  }
  await db.execute(sql`SELECT pg_reload_conf()`);
}

/** How large each table is, with its indexes. */
async function tellSizes({ db }: BenchDatabase): Promise<void> {
  const rows = await db.execute<{ name: string; rows: string; data: string; indexes: string }>(sql`
    SELECT name, to_char(sum(greatest(reltuples, 0)), 'FM999,999,999') AS rows,
      pg_size_pretty(sum(pg_table_size(oid))) AS data, pg_size_pretty(sum(pg_indexes_size(oid))) AS indexes
    FROM (
      SELECT oid, reltuples, regexp_replace(relname, '_([0-9]{6,8}|default)$', '') AS name FROM pg_class
      WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace
    ) AS of
    GROUP BY name HAVING sum(reltuples) > 0 ORDER BY sum(pg_total_relation_size(oid)) DESC`);
  for (const { name, rows: count, data, indexes } of rows) {
    say(
      `${name.padEnd(24)} ${count.padStart(12)} rows ${data.padStart(9)} ${indexes.padStart(9)} of indexes`,
    );
  }
}

await main().catch(fail);

/** What pages of the request log are asked for, and how many rows each may read. */
import { type SQL, sql } from "drizzle-orm";
import { parseAddressRange } from "../../src/auth/address-range.ts";
import type { Database } from "../../src/db/client.ts";
import { conditionOf, type RequestLogFilter } from "../../src/logs/filter.ts";
import type { RequestLogCursor } from "../../src/logs/list-query.ts";
import { createRequestLogStore, defaultScanBudget } from "../../src/logs/store.ts";
import type { BenchDatabase, MadeData } from "./database.ts";
import { keyId, methods, oldestOnly, services, userOf } from "./made-rows.ts";
import type { Reading } from "./measure.ts";

export const pageSize = 100;
/** The page that the deep ones are, the first being 1. */
const deepPage = 1000;

interface LogCase {
  readonly what: string;
  readonly filter: RequestLogFilter;
  /** Rows at most, of a log with so many partitions. */
  readonly most: (partitions: number) => number;
}

/** The first page and a deep one of each filter. */
export async function* logReadings({ client, db }: BenchDatabase, made: MadeData): AsyncGenerator<Reading> {
  const [row] = await client`
    SELECT count(*)::int AS n FROM pg_inherits WHERE inhparent = 'request_logs'::regclass`;
  for (const { what, filter, most } of await logCases(db, made)) {
    const mostRows = most(row?.n);
    const read = (after?: RequestLogCursor) => async (on: Database) =>
      (await createRequestLogStore(on).list(filter, pageSize, after)).rows.length;
    yield { what: `first page: ${what}`, mostRows, read: read() };
    const deep = await findDeep(db, filter);
    if (deep === undefined) continue;
    const note = deep.before === (deepPage - 1) * pageSize ? "" : `its last: ${deep.before} rows before`;
    yield { what: `deep page: ${what}`, mostRows, read: read(deep.after), note };
  }
}

/** An index answers the filter: a page, a row that says that more follow, and a row of each partition, whose rows are merged. */
const oneWalk = (partitions: number) => pageSize + 1 + partitions;
/** So many of these side by side, after as many steps and one from name to name. */
const walks = (count: number) => (partitions: number) =>
  count * oneWalk(partitions) + (count + 1) * partitions;
/** No index does: the budget. It may be shared by the 16 codes of what failed. */
const budget = (partitions: number) => defaultScanBudget + 16 * partitions;
/** Before the page: whether the key is the user's. */
const andOwner = (most: LogCase["most"]) => (partitions: number) => most(partitions) + 1 + partitions;
/** The services, with the retired one. */
const serviceWalks = walks(services.length + 1);

async function logCases(db: Database, made: MadeData): Promise<LogCase[]> {
  const subject = async (n: number) => {
    const number = sql.raw(String(n));
    const [row] = await db.execute<{ key: string; user: string }>(
      sql`SELECT ${keyId(number)} AS key, ${userOf(number, made)} AS user`,
    );
    return { apiKeyId: String(row?.key), userId: BigInt(row?.user ?? 0) };
  };
  const [busy, common, oldest] = [
    await subject(1),
    await subject(Math.ceil(made.keys / 50)),
    await subject(made.keys),
  ];
  const instant = (ms: number) => new Date(ms).toISOString().replace("Z", "000Z");
  const dayMs = 86_400_000;
  const day = { from: instant(made.endMs - 15.5 * dayMs), until: instant(made.endMs - 14.5 * dayMs) };
  const hour = { from: instant(made.endMs - dayMs), until: instant(made.endMs - dayMs + dayMs / 24) };
  const all = { from: instant(made.startMs), until: instant(made.endMs) };
  const busyMethod = { service: services[0], method: methods[0] };
  const never = "00000000-0000-7000-8000-00000000ffff";
  const oldAddresses = parseAddressRange(oldestOnly.addresses);
  const { minDurationUs, errorText } = oldestOnly;

  const answered: [string, RequestLogFilter][] = [
    ["no filter", {}],
    ["the busiest key", { apiKeyId: busy.apiKeyId }],
    ["a key of few calls", { apiKeyId: common.apiKeyId }],
    ["a key of the oldest rows", { apiKeyId: oldest.apiKeyId }],
    ["a key that never called", { apiKeyId: never }],
    ["the busiest user", { userId: busy.userId }],
    ["a user", { userId: common.userId }],
    ["the most frequent denial reason", { denialReason: "MISSING" }],
    ["a rare denial reason", { denialReason: "USER_DISABLED" }],
    ["a denial reason that no row has", { denialReason: "ADDRESS_NOT_ALLOWED" }],
    ["the most frequent code but ok", { code: 5 }],
    ["a rare code", { code: 8 }],
    ["a code that no row has", { code: 12 }],
    ["the busiest method of a service", busyMethod],
    ["a rare method of a service", { service: services.at(-1), method: methods.at(-1) }],
    ["a method of the oldest rows", { service: oldestOnly.service, method: methods[0] }],
    ["a day", day],
    ["an hour", hour],
    ["all 30 days", all],
    ["the busiest key in a day", { ...day, apiKeyId: busy.apiKeyId }],
    ["a key of few calls in 30 days", { ...all, apiKeyId: common.apiKeyId }],
    ["the busiest user in an hour", { ...hour, userId: busy.userId }],
    ["the busiest method in an hour", { ...hour, ...busyMethod }],
    ["a code in a day", { ...day, code: 5 }],
  ];
  const sideBySide: [string, RequestLogFilter, LogCase["most"]][] = [
    ["the busiest service", { service: services[0] }, walks(methods.length)],
    ["a rare service", { service: services.at(-1) }, walks(methods.length)],
    ["a service of the oldest rows", { service: oldestOnly.service }, walks(methods.length)],
    ["a service that no row has", { service: "no.such.Service" }, walks(1)],
    ["a service in a day", { ...day, service: services[0] }, walks(methods.length)],
    ["the busiest method of any service", { method: methods[0] }, serviceWalks],
    ["a rare method of any service", { method: methods.at(-1) }, serviceWalks],
  ];
  const rest: [string, RequestLogFilter][] = [
    ["code ok", { code: 0 }],
    ["20 ms and longer", { minDurationUs: 20_000n }],
    ["a minute and longer, of the oldest rows", { minDurationUs }],
    ["100 µs and shorter", { maxDurationUs: 100n }],
    ["1 to 2 ms", { minDurationUs: 1000n, maxDurationUs: 2000n }],
    ["the most frequent protocol", { protocol: "grpc" }],
    ["a protocol of the oldest rows", { protocol: oldestOnly.protocol }],
    ["an address", { peerAddress: parseAddressRange("10.1.0.1") }],
    ["a block of addresses", { peerAddress: parseAddressRange("10.1.0.0/16") }],
    ["addresses of the oldest rows", { peerAddress: oldAddresses }],
    ["a frequent error text", { errorText: "Was Not Found" }],
    ["an error text of the oldest rows", { errorText }],
    ["an error text that no row has", { errorText: "no such text" }],
    ["an error text in a day", { ...day, errorText }],
    ["the busiest key's failures", { apiKeyId: busy.apiKeyId, code: 13 }],
    ["the busiest key's calls of one method", { apiKeyId: busy.apiKeyId, ...busyMethod }],
    ["the busiest user's rare protocol", { userId: busy.userId, protocol: oldestOnly.protocol }],
    ["a user's error text", { userId: common.userId, errorText }],
    ["a service's failures", { service: services[0], code: 5 }],
    ["a service's long calls", { service: services[0], minDurationUs }],
    ["a method's long calls", { ...busyMethod, minDurationUs }],
    ["a method's error text, of any service", { method: methods[0], errorText }],
    ["a code's error text", { code: 13, errorText }],
    ["a code by an address", { code: 5, peerAddress: oldAddresses }],
    ["a service's refusals", { service: services[0], denialReason: "MISSING" }],
    ["long calls in a day", { ...day, minDurationUs }],
    ["a protocol in an hour", { ...hour, protocol: "grpc-web" }],
  ];
  return [
    ...answered.map(([what, filter]) => ({ what, filter, most: oneWalk })),
    ...sideBySide.map(([what, filter, most]) => ({ what, filter, most })),
    ...rest.map(([what, filter]) => ({ what, filter, most: budget })),
    { what: "a user's own key", filter: busy, most: andOwner(budget) },
    { what: "another user's key", filter: { ...busy, userId: common.userId }, most: andOwner(() => 0) },
  ];
}

/**
 * Where the deep page of a filter begins. Where there are not as many rows, its last
 * page, of 50. Undefined: it has no row.
 */
async function findDeep(
  db: Database,
  filter: RequestLogFilter,
): Promise<{ after: RequestLogCursor; before: number } | undefined> {
  const most = (deepPage - 1) * pageSize;
  const [row] = await db.execute<{ instant: string; id: string; place: string }>(sql`
    WITH newest AS (
      SELECT time, id FROM request_logs WHERE ${conditionOf(filter) ?? sql`true`}
      ORDER BY time DESC, id DESC LIMIT ${most}
    ), placed AS (
      SELECT *, row_number() OVER (ORDER BY time DESC, id DESC) AS place, count(*) OVER () AS found FROM newest
    )
    SELECT ${instantOf(sql`time`)} AS instant, id, place FROM placed
    WHERE place = CASE WHEN found = ${most} THEN found ELSE greatest(1, found - 50) END`);
  return row && { after: { time: row.instant, id: row.id }, before: Number(row.place) };
}

function instantOf(time: SQL): SQL {
  return sql`to_char(${time} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')`;
}

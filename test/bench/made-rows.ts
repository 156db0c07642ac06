/**
 * The users, keys and request log rows of a measurement, made in SQL.
 *
 * What is skewed in life is skewed here. Of N keys, the k-th busiest makes about
 * 1 / (k ln N) of the calls; each key calls mostly one service. There are 20 services
 * of 10 methods. 2 % of the calls fail, 1 % are refused and name no key and no user,
 * 1 % are signed in by the secret key. Durations are log-normal around 3 ms. By night
 * there are fewer calls than by day. Names are drawn by a power of a random number, which
 * prefers the first ones.
 *
 * The oldest rows hold what nothing newer does, which is what a listing from the newest
 * row on finds last: calls of the last key, of a service that was retired, by `verify`,
 * from 2001:db8::/32, that took a minute, and with an error about a disk.
 */
import { type SQL, sql } from "drizzle-orm";
import type { Database } from "../../src/db/client.ts";
import { dayMs } from "../../src/usage/range.ts";
import { timestamp } from "../../src/usage/rollup-sql.ts";
import type { DataSize, MadeData } from "./database.ts";

export const services = [
  ...["Invoice", "Payment", "Ledger", "Refund", "Tax"].map((name) => `billing.v1.${name}Service`),
  ...["Order", "Cart", "Price", "Stock", "Coupon"].map((name) => `shop.v1.${name}Service`),
  ...["Account", "Session", "Team", "Role", "Invite"].map((name) => `identity.v1.${name}Service`),
  ...["Message", "Channel", "Device", "Template", "Webhook"].map((name) => `notify.v1.${name}Service`),
];
export const methods = "Get List Search Create Update Delete Watch Export Import Archive".split(" ");
export const oldestOnly = {
  service: "legacy.v1.LegacyService",
  protocol: "verify",
  addresses: "2001:db8::/32",
  minDurationUs: 60_000_000n,
  errorText: "no space left on device",
} as const;
/** One row in so many is of the oldest. */
const oldestShare = 300;

/** The id of the n-th busiest key, a UUIDv7. How busy it is has nothing to do with its age. */
export function keyId(n: SQL): SQL {
  return sql`(lpad(to_hex(1700000000000 + (${n}::bigint * 7919 % 1000003) * 60000), 12, '0') || '7'
    || substr(md5(${n}::text), 1, 3) || '8' || substr(md5(${n}::text), 4, 15))::uuid`;
}

/** The user of the n-th busiest key. */
export function userOf(n: SQL, { users }: DataSize): SQL {
  return sql`(1 + ${n}::bigint * 31 % ${literal(users)})`;
}

/** Makes the users and the keys; what these have used is counted last, by {@link countUsage}. */
export async function makeKeys(db: Database, size: DataSize): Promise<void> {
  await db.execute(sql`
    INSERT INTO users (id, username, username_key, email) OVERRIDING SYSTEM VALUE
    SELECT n, 'user' || n, 'user' || n, 'user' || n || '@example.com' FROM generate_series(1, ${size.users}::int) n`);
  await db.execute(sql`SELECT setval(pg_get_serial_sequence('users', 'id'), ${size.users}::int)`);
  await db.execute(sql`
    INSERT INTO api_keys (id, user_id, name, type, hash, start)
    SELECT ${keyId(sql`n`)}, ${userOf(sql`n`, size)}, 'key ' || n, 'service', sha256(('made ' || n)::bytea), 'lk_made'
    FROM generate_series(1, ${size.keys}::int) n`);
}

export async function countUsage(db: Database, { endMs }: MadeData): Promise<void> {
  await db.execute(sql`
    INSERT INTO api_key_usage (api_key_id, request_count, last_used_at, idle_since)
    SELECT id, coalesce(requests, 0), last, coalesce(last, ${timestamp(endMs)})::date
    FROM api_keys LEFT JOIN (
      SELECT api_key_id, count(*) AS requests, max(time) AS last FROM request_logs GROUP BY api_key_id
    ) AS used ON api_key_id = id`);
}

const agents = ["grpc-node-js/1.14.7", "grpc-go/1.75.0", "grpc-python-asyncio/1.76.0", "connect-es/2.2.0"];
const refusals = ["MISSING", "UNKNOWN", "EXPIRED", "REVOKED", "METHOD_NOT_ALLOWED", "STAFF_REQUIRED"];

/** Makes the rows `from` to `to` (exclusive) of all, which are numbered from the oldest. */
export async function makeRows(db: Database, made: MadeData, from: number, to: number): Promise<void> {
  await db.execute(sql`
    INSERT INTO request_logs (time, id, service, method, protocol, code, denial_reason, user_id, api_key_id,
      credential_kind, duration_us, request_bytes, response_bytes, peer_address, user_agent, request_id,
      instance_id, error_message)
    SELECT time, id,
      CASE WHEN ${oddOfOldest(0)} THEN ${oldestOnly.service} ELSE ${pick(services, sql`r_service`)} END,
      ${pick(methods, sql`r_method`)},
      CASE WHEN ${oddOfOldest(1)} THEN ${oldestOnly.protocol}
        ELSE ${pick(["grpc", "connect", "grpc-web"], sql`r_agent`)} END,
      code, denial_reason,
      CASE WHEN NOT is_refused THEN ${userOf(sql`key_n`, made)} END,
      CASE WHEN NOT is_refused AND NOT by_secret THEN ${keyId(sql`key_n`)} END,
      CASE WHEN by_secret THEN 'secret_key' WHEN denial_reason = 'MISSING' THEN 'none' ELSE 'api_key' END,
      CASE WHEN ${oddOfOldest(2)} THEN ${literal(Number(oldestOnly.minDurationUs))} ELSE duration_us END,
      20 + (r_size * r_size * 2000)::bigint,
      CASE WHEN code = 0 THEN 30 + (r_size * 10000)::bigint ELSE 0 END,
      CASE WHEN ${oddOfOldest(3)} THEN '2001:db8::' || n % 100
        ELSE '10.' || key_n % 100 || '.' || key_n / 100 % 250 || '.' || n % 4 END::inet,
      ${pick(agents, sql`r_agent`)}, id::text, ('00000000-0000-7000-8000-00000000000' || n % 3)::uuid,
      ${errorMessage}
    FROM (${placedCalls(made, drawnCalls(made, from, to))}) AS call`);
}

/** Of the oldest calls, a hundredth: another one for each number. */
function oddOfOldest(n: number): SQL {
  return sql`is_old AND r_odd >= ${literal(n / 100)} AND r_odd < ${literal((n + 1) / 100)}`;
}

/** One of some names, by a random number; the first ones most often. */
function pick(names: readonly string[], random: SQL): SQL {
  const list = sql`${sql.param([...names])}::text[]`;
  return sql`(${list})[1 + floor(${literal(names.length)} * power(${random}, 2.5))::int]`;
}

const errorMessage = sql`
  CASE WHEN code = 0 THEN NULL
    WHEN is_old AND code = 13 THEN ${`write failed: ${oldestOnly.errorText}`}
    WHEN denial_reason IS NOT NULL THEN 'refused: ' || lower(denial_reason)
    WHEN code = 5 THEN 'record ' || n % 100000 || ' was not found'
    WHEN code = 3 THEN 'field ' || n % 20 || ' must not be empty'
    WHEN code = 4 THEN 'the deadline of ' || (1 + n % 30) || ' s has passed'
    WHEN code = 14 THEN 'upstream 10.0.0.' || n % 20 || ' refused the connection'
    ELSE 'unexpected state ' || n % 1000 END`;

/** The numbers of some calls and what chance decides of them; and whether they are of the oldest. */
function drawnCalls({ rows, startMs, endMs }: MadeData, from: number, to: number): SQL {
  const random = [
    "key",
    "home",
    "drawn",
    "method",
    "odd",
    "outcome",
    "kind",
    "agent",
    "long",
    "turn",
    "size",
  ];
  const dayOf = sql`(n + random()) * ${literal((endMs - startMs) / dayMs)} / ${literal(rows)}`;
  return sql`
    SELECT n, n < ${literal(Math.ceil(rows / oldestShare))} AS is_old, ${dayOf} AS day,
      ${sql.raw(random.map((name) => `random() AS r_${name}`).join(", "))}
    FROM generate_series(${from}::bigint, ${to - 1}::bigint) AS n`;
}

/** What follows from that: when each is, whose, and how it ends. */
function placedCalls({ keys, startMs }: MadeData, drawn: SQL): SQL {
  const phase = (startMs / dayMs) % 1;
  // In days: where this grows slowly there are many calls, as there are at noon.
  const curve = (day: SQL) => sql`(${day} + 0.1 * sin(2 * pi() * (${day} + ${literal(phase)})))`;
  const randomId = sql`md5(n::text || r_key)`;
  return sql`
    SELECT *, ${timestamp(startMs)} + at * interval '1 day' AS time,
      (lpad(to_hex(${literal(startMs)} + floor(at * ${literal(dayMs)})::bigint), 12, '0') || '7'
        || substr(${randomId}, 1, 3) || '8' || substr(${randomId}, 4, 15))::uuid AS id,
      CASE WHEN r_home < 0.8 THEN (key_n * 7919 % 1000) / 1000.0 ELSE r_drawn END AS r_service,
      CASE WHEN denial_reason IN ('STAFF_REQUIRED', 'METHOD_NOT_ALLOWED') THEN 7 WHEN is_refused THEN 16
        WHEN r_outcome < 0.03 THEN (ARRAY[5, 5, 5, 5, 3, 3, 4, 13, 14, 8])[1 + floor(10 * r_kind)::int]
        ELSE 0 END AS code,
      r_outcome >= 0.03 AND r_outcome < 0.04 AS by_secret,
      (3000 * exp(1.1 * sqrt(-2 * ln(1 - r_long)) * cos(2 * pi() * r_turn)))::bigint AS duration_us
    FROM (
      SELECT *, ${curve(sql`day`)} - ${curve(sql`0`)} AS at, r_outcome < 0.01 AS is_refused,
        CASE WHEN is_old AND r_odd > 0.99 THEN ${literal(keys)}
          ELSE least(${literal(keys - 1)}, floor(exp(r_key * ln(${literal(keys)})))::bigint) END AS key_n,
        CASE WHEN r_outcome < 0.00002 THEN 'USER_DISABLED'
          WHEN r_outcome < 0.01 THEN ${pick(refusals, sql`r_kind`)} END AS denial_reason
      FROM (${drawn}) AS drawn
    ) AS outlined`;
}

/** A number that is part of the statement: as a parameter its type would be guessed. */
function literal(n: number): SQL {
  return sql.raw(String(n));
}

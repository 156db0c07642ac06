/** A server with users and keys of theirs, for tests of what becomes of keys. */
import assert from "node:assert/strict";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { type Timestamp, timestampFromDate } from "@bufbuild/protobuf/wkt";
import type postgres from "postgres";
import type { Config } from "../../src/config.ts";
import type { ApiKey, CreateApiKeyRequestSchema } from "../../src/gen/latchkey/v1/api_key_service_pb.js";
import { noteSecret } from "../harness/secrets.ts";
import {
  type Clients,
  clientsOf,
  connectTransport,
  startServer,
  type TestServer,
} from "../harness/server.ts";
import { until } from "../harness/until.ts";

/** What a restricted key needs for managing keys. */
export const keyMethods = "latchkey.v1.ApiKeyService/*";

export interface MadeKey {
  readonly id: string;
  readonly token: string;
  /** As it was made. */
  readonly key: ApiKey;
  /** Calls with the key. */
  readonly client: Clients;
}

export interface KeyWorld {
  readonly latchkey: TestServer;
  readonly sql: postgres.Sql;
  /** The secret key's: unlimited. */
  readonly staff: Clients;
  readonly anonymous: Clients;
  newUser(options?: { isStaff?: boolean }): Promise<bigint>;
  /** Made by staff, for a new user unless one is named. */
  newKey(request?: MessageInitShape<typeof CreateApiKeyRequestSchema>): Promise<MadeKey>;
  stored(id: string): Promise<ApiKey>;
  close(): Promise<void>;
}

export async function createKeyWorld(options: Partial<Config> = {}): Promise<KeyWorld> {
  const latchkey = await startServer(options);
  const { sql, asStaff: staff } = latchkey;
  let n = 0;

  async function newUser({ isStaff = false } = {}) {
    const { id } = await staff.users.createUser({ username: `user-${++n}` });
    if (isStaff) await sql`UPDATE users SET is_staff = true WHERE id = ${String(id)}`;
    return id;
  }

  return {
    latchkey,
    sql,
    staff,
    anonymous: clientsOf(connectTransport(latchkey.url, undefined)),
    newUser,
    async newKey(request = {}) {
      const userId = request.userId ?? (await newUser());
      return made(latchkey, await staff.keys.createApiKey({ name: "a key", ...request, userId }));
    },
    async stored(id) {
      const { apiKey } = await staff.keys.getApiKey({ id });
      assert.ok(apiKey);
      return apiKey;
    },
    close: () => latchkey.close(),
  };
}

/** What CreateApiKey or RotateApiKey answered, as a key that can be called with. */
export function made(
  latchkey: TestServer,
  { apiKey, token }: { apiKey?: ApiKey | undefined; token: string },
): MadeKey {
  assert.ok(apiKey);
  return { id: apiKey.id, token: noteSecret(token), key: apiKey, client: latchkey.as(token) };
}

/** A time so many milliseconds from now. */
export function inMs(ms: number): Timestamp {
  return timestampFromDate(new Date(Date.now() + ms));
}

export const anHourMs = 3_600_000;
export const aDayMs = 24 * anHourMs;

/** Runs a call while a transaction of the test holds rows: commits once the call waits for them, and returns its outcome. */
export async function whileHeld<T>(
  sql: postgres.Sql,
  hold: (tx: postgres.TransactionSql) => Promise<unknown>,
  call: () => Promise<T>,
): Promise<T> {
  let outcome: Promise<T> | undefined;
  await sql.begin(async (tx) => {
    await hold(tx);
    outcome = call();
    outcome.catch(() => {});
    const waiting = () => sql<{ n: number }[]>`
      SELECT count(*)::int AS n FROM pg_stat_activity
      WHERE datname = current_database() AND wait_event_type = 'Lock'`;
    await until(waiting, ([row]) => row?.n === 1);
  });
  assert.ok(outcome);
  return outcome;
}

/** The audit events of a key, oldest first. */
export function eventsOf(sql: postgres.Sql, id: string) {
  return sql<
    { action: string; actor_api_key_id: string | null; before: unknown; after: Record<string, unknown> }[]
  >`SELECT action, actor_api_key_id, before, after FROM audit_events WHERE target_api_key_id = ${id} ORDER BY id`;
}

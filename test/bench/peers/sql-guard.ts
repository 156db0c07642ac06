/**
 * The guard that one writes first: for each call a SELECT of the key by its hash, then an UPDATE of
 * its count and an INSERT into a log. Each is a prepared statement of postgres.js.
 */
import { createHash, randomBytes } from "node:crypto";
import { Code, ConnectError, createContextKey, type Interceptor } from "@connectrpc/connect";
import type postgres from "postgres";
import { connect } from "../../../src/db/client.ts";
import type { Guard } from "./connect-fastify.ts";

interface Caller {
  readonly id: number;
  readonly userId: number;
}

const callerKey = createContextKey<Caller | undefined>(undefined);

/** Verifies a token, counts its use and logs it. Undefined: nobody has it. */
export type Verify = (token: string, method: string) => Promise<Caller | undefined>;

export interface SqlKeys {
  readonly tokens: readonly string[];
  readonly verify: Verify;
  close(): Promise<unknown>;
}

/** Makes tables and so many keys. */
export async function createSqlKeys(databaseUrl: string, count: number): Promise<SqlKeys> {
  const sql: postgres.Sql = connect(
    { url: databaseUrl },
    { max: 10, purpose: "peer", statementTimeoutMs: 0 },
  );
  await sql`CREATE TABLE api_keys (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, user_id bigint NOT NULL, hash bytea NOT NULL UNIQUE,
    enabled boolean NOT NULL DEFAULT true, expires_at timestamptz, request_count bigint NOT NULL DEFAULT 0,
    last_used_at timestamptz)`;
  await sql`CREATE TABLE request_logs (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, time timestamptz NOT NULL DEFAULT now(),
    api_key_id bigint NOT NULL, method text NOT NULL)`;
  await sql`CREATE INDEX ON request_logs (api_key_id, time)`;
  const tokens = Array.from({ length: count }, () => `sk_${randomBytes(24).toString("base64url")}`);
  const rows = tokens.map((token) => ({ user_id: 1, hash: hashOf(token) }));
  await sql`INSERT INTO api_keys ${sql(rows)}`;
  return {
    tokens,
    async verify(token, method) {
      const [key] = await sql<{ id: number; userId: number }[]>`
        SELECT id, user_id AS "userId" FROM api_keys
        WHERE hash = ${hashOf(token)} AND enabled AND (expires_at IS NULL OR expires_at > now())`;
      if (key === undefined) return undefined;
      await sql`UPDATE api_keys SET request_count = request_count + 1, last_used_at = now() WHERE id = ${key.id}`;
      await sql`INSERT INTO request_logs (api_key_id, method) VALUES (${key.id}, ${method})`;
      return key;
    },
    close: () => sql.end(),
  };
}

export async function createGuard(job: { databaseUrl: string }): Promise<Guard> {
  const keys = await createSqlKeys(job.databaseUrl, 1);
  const interceptor: Interceptor = (next) => async (req) => {
    const token = req.header.get("x-api-key");
    const caller = token === null ? undefined : await keys.verify(token, req.method.name);
    if (caller === undefined) throw new ConnectError("invalid API key", Code.Unauthenticated);
    req.contextValues.set(callerKey, caller);
    return next(req);
  };
  return { token: keys.tokens[0] ?? "", interceptor, close: keys.close };
}

function hashOf(token: string): Buffer {
  return createHash("sha256").update(token).digest();
}

/** better-auth's API key plugin as a guard: one database, no rate limit, everything else as it comes. */
import { apiKey } from "@better-auth/api-key";
import { Code, ConnectError, createContextKey, type Interceptor } from "@connectrpc/connect";
import { betterAuth } from "better-auth";
import { drizzleAdapter } from "better-auth/adapters/drizzle";
import { getAuthTables } from "better-auth/db";
import { boolean, integer, pgTable, text, timestamp } from "drizzle-orm/pg-core";
import { connect, database } from "../../../src/db/client.ts";
import type { Guard } from "./connect-fastify.ts";

const callerKey = createContextKey<string | undefined>(undefined);

// It would refuse the eleventh call of a day.
const plugin = apiKey({ rateLimit: { enabled: false } });
const columns = { string: "text", number: "integer", boolean: "boolean", date: "timestamptz" };

export interface BetterAuthKeys {
  readonly tokens: readonly string[];
  /** Whose key it is; undefined: nobody's. */
  verify(token: string): Promise<string | undefined>;
  close(): Promise<unknown>;
}

/** Makes its tables, a user and so many keys. */
export async function createBetterAuthKeys(databaseUrl: string, count: number): Promise<BetterAuthKeys> {
  const sql = connect({ url: databaseUrl }, { max: 10, purpose: "peer", statementTimeoutMs: 0 });
  const { definitions, schema } = describeTables();
  for (const definition of definitions) await sql.unsafe(definition);
  const auth = betterAuth({
    ...{ baseURL: "http://127.0.0.1", secret: "of the bench, where nobody signs in" },
    database: drizzleAdapter(database(sql), { provider: "pg", schema }),
    telemetry: { enabled: false },
    plugins: [plugin],
  });
  await sql`INSERT INTO "user" VALUES ('ada', 'Ada', 'ada@example.com', true, null, now(), now())`;
  const tokens: string[] = [];
  while (tokens.length < count) {
    tokens.push((await auth.api.createApiKey({ body: { userId: "ada", name: "bench" } })).key);
  }
  return {
    tokens,
    async verify(key) {
      const { valid, key: found } = await auth.api.verifyApiKey({ body: { key } });
      return valid ? found?.referenceId : undefined;
    },
    close: () => sql.end(),
  };
}

export async function createGuard(job: { databaseUrl: string }): Promise<Guard> {
  const keys = await createBetterAuthKeys(job.databaseUrl, 1);
  const interceptor: Interceptor = (next) => async (req) => {
    const token = req.header.get("x-api-key");
    const caller = token === null ? undefined : await keys.verify(token);
    if (caller === undefined) throw new ConnectError("invalid API key", Code.Unauthenticated);
    req.contextValues.set(callerKey, caller);
    return next(req);
  };
  return { token: keys.tokens[0] ?? "", interceptor, close: keys.close };
}

/** The tables that it says it needs, as SQL and as Drizzle has them. */
function describeTables() {
  const definitions: string[] = [];
  const schema: Record<string, unknown> = {};
  const build = { string: text, number: integer, boolean, date: timestamp };
  for (const [name, { modelName, fields }] of Object.entries(getAuthTables({ plugins: [plugin] }))) {
    const typed = Object.entries(fields).map(([field, { type, ...rest }]) => {
      if (typeof type !== "string" || !(type in columns))
        throw new Error(`${modelName}.${field} is a ${type}`);
      return { field, type: type as keyof typeof columns, ...rest };
    });
    const lines = typed.map(
      ({ field, type, required, unique }) =>
        `"${field}" ${columns[type]}${required ? " NOT NULL" : ""}${unique ? " UNIQUE" : ""}`,
    );
    definitions.push(`CREATE TABLE "${modelName}" (id text PRIMARY KEY, ${lines.join(", ")})`);
    for (const { field, index } of typed) {
      if (index) definitions.push(`CREATE INDEX ON "${modelName}" ("${field}")`);
    }
    schema[name] = pgTable(modelName, {
      id: text().primaryKey(),
      ...Object.fromEntries(
        typed.map(({ field, type }) => [
          field,
          type === "date" ? timestamp({ withTimezone: true }) : build[type](),
        ]),
      ),
    });
  }
  return { definitions, schema };
}

/** Keys that the bench calls with. */
import { writeFile } from "node:fs/promises";
import { sql } from "drizzle-orm";
import { v7 as uuidv7 } from "uuid";
import { createToken, hashToken, tokenStart } from "../../src/auth/token.ts";
import { connect, type Database, database } from "../../src/db/client.ts";
import { migrate } from "../../src/db/migrate.ts";
import { apiKeys, apiKeyUsage } from "../../src/db/schema.ts";
import { createApiKey } from "../../src/keys/store.ts";
import { createUser } from "../../src/users/changes.ts";

const tokenPrefix = "lk";
const keysPerUser = 10;

/** Migrates a database and makes a user and a key in it. Returns the key's token. */
export function createFirstKey(databaseUrl: string): Promise<string> {
  return inMigrated(databaseUrl, async (db) => {
    const token = createToken(tokenPrefix);
    const userId = await createBenchUser(db, "ada");
    await createApiKey(
      db,
      {
        ...{ userId, name: "bench", description: "", type: "service", expiresAt: null },
        ...{ hash: hashToken(token), start: tokenStart(token, tokenPrefix) },
      },
      {},
    );
    return token;
  });
}

/** Migrates a database and makes so many keys in it. Their tokens go to a file, a line each. */
export function createKeys(databaseUrl: string, count: number, tokensFile: string): Promise<void> {
  return inMigrated(databaseUrl, async (db) => {
    const tokens = Array.from({ length: count }, () => createToken(tokenPrefix));
    await writeFile(tokensFile, tokens.join("\n"), { mode: 0o600 });
    // Nobody listens yet, and a notification for each key would take longer than the keys.
    await db.execute(sql`SET session_replication_role = replica`);
    await db.execute(sql`
      INSERT INTO users (username, username_key)
      SELECT 'user-' || n, 'user-' || n FROM generate_series(1, ${Math.ceil(count / keysPerUser)}::int) AS n`);
    for (let from = 0; from < count; from += 10_000) {
      const some = tokens.slice(from, from + 10_000);
      const ids = some.map(() => uuidv7());
      await db.execute(sql`
        WITH made AS (
          INSERT INTO ${apiKeys} (id, user_id, name, type, hash, start)
          SELECT id, (SELECT min(id) FROM users) + (${from}::int + ordinality - 1) / ${keysPerUser}::int, 'bench', 'service',
            decode(hash, 'base64'), start
          FROM unnest(${sql.param(ids)}::uuid[], ${sql.param(some.map(hashToken))}::text[],
            ${sql.param(some.map((token) => tokenStart(token, tokenPrefix)))}::text[])
            WITH ORDINALITY AS key (id, hash, start, ordinality)
          RETURNING id
        )
        INSERT INTO ${apiKeyUsage} (api_key_id) SELECT id FROM made`);
    }
    await db.execute(sql`SET session_replication_role = DEFAULT`);
    await db.execute(sql`VACUUM ANALYZE`);
  });
}

async function createBenchUser(db: Database, username: string): Promise<bigint> {
  const email = `${username}@example.com`;
  const { id } = await createUser(db, { username, email, bio: "", isStaff: false }, {});
  return id;
}

async function inMigrated<T>(databaseUrl: string, run: (db: Database) => Promise<T>): Promise<T> {
  await migrate({ url: databaseUrl });
  const client = connect({ url: databaseUrl }, { max: 1, purpose: "bench", statementTimeoutMs: 0 });
  try {
    return await run(database(client));
  } finally {
    await client.end({ timeout: 5 });
  }
}

/** Keys that the bench calls with. */
import { createToken, hashToken, tokenStart } from "../../src/auth/token.ts";
import { connect, database } from "../../src/db/client.ts";
import { migrate } from "../../src/db/migrate.ts";
import { createApiKey } from "../../src/keys/store.ts";
import { createUser } from "../../src/users/changes.ts";

const tokenPrefix = "lk";

/** Migrates a database and makes a user and a key in it. Returns the key's token. */
export async function createFirstKey(databaseUrl: string): Promise<string> {
  await migrate({ url: databaseUrl });
  const client = connect({ url: databaseUrl }, { max: 1, purpose: "bench", statementTimeoutMs: 10_000 });
  try {
    const db = database(client);
    const token = createToken(tokenPrefix);
    const user = await createUser(
      db,
      { username: "ada", email: "ada@example.com", bio: "", isStaff: false },
      {},
    );
    await createApiKey(
      db,
      {
        ...{ userId: user.id, name: "bench", description: "", type: "service", expiresAt: null },
        ...{ hash: hashToken(token), start: tokenStart(token, tokenPrefix) },
      },
      {},
    );
    return token;
  } finally {
    await client.end({ timeout: 5 });
  }
}

/** `latchkey bootstrap`: production's first staff user and key. */
import { ConnectError } from "@connectrpc/connect";
import { createToken, hashToken, tokenStart } from "../auth/token.ts";
import type { Config } from "../config.ts";
import { connect, database, sqlState } from "../db/client.ts";
import { migrate } from "../db/migrate.ts";
import { openDatabase } from "../db/open.ts";
import { createApiKey } from "../keys/store.ts";
import { createUser } from "../users/changes.ts";
import { checkEmail, checkUsername } from "../users/fields.ts";
import { UsageError } from "./usage-error.ts";

/** Runs the command. Prints the token on standard output and the rest on standard error. */
export async function bootstrap(
  user: { readonly username: string; readonly email: string },
  config: Config,
): Promise<void> {
  const { username, email } = checkUser(user.username, user.email);

  const opened = await openDatabase({ ...config, onProgress: (text) => process.stderr.write(`${text}\n`) });
  try {
    await migrate(opened.address);
    const client = connect(opened.address, { max: 1, purpose: "bootstrap", statementTimeoutMs: 10_000 });
    try {
      const db = database(client);
      const token = createToken(config.tokenPrefix);
      const key = await db.transaction(async (tx) => {
        const user = await createUser(tx, { username, email, bio: "", isStaff: true }, {});
        return createApiKey(
          tx,
          {
            userId: user.id,
            name: "bootstrap",
            description: "The first key, made by latchkey bootstrap.",
            type: "cli",
            hash: hashToken(token),
            start: tokenStart(token, config.tokenPrefix),
            expiresAt: null,
          },
          {},
        );
      });
      process.stderr.write(
        `Created the staff user ${username} (id ${key.userId}) and the API key ${key.id}.\n`,
      );
      process.stderr.write("Its token is shown this once: keep it now.\n");
      process.stdout.write(`${token}\n`);
    } catch (error) {
      if (sqlState(error) !== "23505") throw error;
      throw new UsageError(`there is a user ${username} already: choose another --username`);
    } finally {
      await client.end({ timeout: 5 });
    }
  } finally {
    await opened.close();
  }
}

function checkUser(username: string, email: string): { username: string; email: string } {
  try {
    return { username: checkUsername(username), email: checkEmail(email) };
  } catch (error) {
    throw new UsageError(ConnectError.from(error).rawMessage);
  }
}

/** The users that a development database begins with. */
import { sql } from "drizzle-orm";
import type { Database } from "../db/client.ts";
import { users } from "../db/schema.ts";
import { createUser } from "./changes.ts";

/** Any number, the same in every instance: two that start at once seed once. */
const seedLock = 7_270_951_826;

/** Creates the staff user "admin" and the user "example" where there is no user at all. */
export async function seedUsers(db: Database): Promise<void> {
  await db.transaction(async (tx) => {
    await tx.execute(sql`SELECT pg_advisory_xact_lock(${seedLock})`);
    const [anyone] = await tx.select({ id: users.id }).from(users).limit(1);
    if (anyone !== undefined) return;
    await createUser(
      tx,
      { username: "admin", email: "admin@localhost.localdomain", bio: "", isStaff: true },
      {},
    );
    await createUser(
      tx,
      {
        username: "example",
        email: "example@localhost.localdomain",
        bio: "An example user.",
        isStaff: false,
      },
      {},
    );
  });
}

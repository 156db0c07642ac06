/** Whatever changes keys and users: the verdict from memory is the one that the tables give. */
import assert from "node:assert/strict";
import { createHash, randomUUID } from "node:crypto";
import { after, before, test } from "node:test";
import fc from "fast-check";
import type { Question, Verdict } from "../../src/auth/verdict.ts";
import {
  allQuestions,
  createVerdictWorld,
  ownedTokens,
  readRows,
  reference,
  tokens,
  type VerdictWorld,
} from "./verdict-world.ts";

let world: VerdictWorld;
let questions: Question[];
before(async () => {
  world = await createVerdictWorld();
  questions = allQuestions(world);
});
after(() => world.close());

/** A change, as the counterexample shows it, and how it is made. */
interface Change {
  readonly name: string;
  readonly apply: (world: VerdictWorld) => Promise<unknown>;
}

const startMs = Date.UTC(2030, 0, 1);
const hashes = tokens.map((token) => createHash("sha256").update(token).digest());
const usernames = ["ada", "bob", "cy"];

const user = fc.constantFrom(...usernames);
const key = fc.nat(ownedTokens - 1);
const allowedMethods = fc.oneof(
  { weight: 2, arbitrary: fc.constant([]) },
  {
    weight: 3,
    arbitrary: fc.uniqueArray(
      fc.constantFrom("a.b.One/Get", "a.b.One/*", "a.b.*", "a.*", "*", "a.bc.Two/*", "x.Y/Z"),
      { minLength: 1, maxLength: 2 },
    ),
  },
);
const allowedAddresses = fc.oneof(
  { weight: 2, arbitrary: fc.constant([]) },
  {
    weight: 3,
    arbitrary: fc.uniqueArray(
      fc.constantFrom(
        "203.0.113.0/24",
        "0.0.0.0/0",
        "2001:db8::/32",
        "::/0",
        "198.51.100.1/32",
        "10.0.0.0/8",
      ),
      { minLength: 1, maxLength: 2 },
    ),
  },
);
/** Milliseconds from the start; null: never. */
const expiry = fc.constantFrom(null, null, -1000, 0, 1000, 5000, 60_000);
const time = (ms: number | null) => (ms === null ? null : new Date(startMs + ms));

const change = (name: string, apply: Change["apply"]): Change => ({ name, apply });
const flag = fc.boolean();

const changes: fc.Arbitrary<Change> = fc.oneof(
  fc
    .tuple(key, user, allowedMethods, allowedAddresses, expiry, flag)
    .map(([n, name, may, from, ms, verifies]) =>
      change(
        `create key ${n} of ${name} for [${may}] from [${from}] until ${ms}`,
        ({ sql }) => sql`
        INSERT INTO api_keys (id, user_id, name, type, hash, start, imported, allowed_methods, allowed_addresses,
          expires_at, can_verify)
        SELECT ${randomUUID()}, id, 'a key', 'service', ${hashes[n] ?? null}, '', ${n >= 4}, ${may}, ${from},
          ${time(ms)}, ${verifies}
        FROM users WHERE username = ${name} ON CONFLICT (hash) DO NOTHING`,
      ),
    ),
  fc
    .tuple(key, allowedMethods)
    .map(([n, may]) =>
      change(
        `key ${n} may call [${may}]`,
        ({ sql }) => sql`UPDATE api_keys SET allowed_methods = ${may} WHERE hash = ${hashes[n] ?? null}`,
      ),
    ),
  fc
    .tuple(key, allowedAddresses)
    .map(([n, from]) =>
      change(
        `key ${n} may be used from [${from}]`,
        ({ sql }) => sql`UPDATE api_keys SET allowed_addresses = ${from} WHERE hash = ${hashes[n] ?? null}`,
      ),
    ),
  fc
    .tuple(key, expiry)
    .map(([n, ms]) =>
      change(
        `key ${n} expires at ${ms}`,
        ({ sql }) => sql`UPDATE api_keys SET expires_at = ${time(ms)} WHERE hash = ${hashes[n] ?? null}`,
      ),
    ),
  fc
    .tuple(key, flag)
    .map(([n, verifies]) =>
      change(
        `key ${n} may ${verifies ? "" : "not "}verify`,
        ({ sql }) => sql`UPDATE api_keys SET can_verify = ${verifies} WHERE hash = ${hashes[n] ?? null}`,
      ),
    ),
  fc.tuple(key, key, fc.constantFrom(0, 1000, 5000)).map(([from, to, graceMs]) =>
    change(`rotate key ${from} into ${to} with ${graceMs} ms`, ({ sql, clock }) =>
      sql.begin(async (tx) => {
        const made = await tx`
          INSERT INTO api_keys (id, user_id, name, type, hash, start, imported, allowed_methods, allowed_addresses,
            expires_at, can_verify, rotated_from)
          SELECT ${randomUUID()}, user_id, name, type, ${hashes[to] ?? null}, '', ${to >= 4}, allowed_methods,
            allowed_addresses, expires_at, can_verify, id
          FROM api_keys WHERE hash = ${hashes[from] ?? null} ON CONFLICT DO NOTHING RETURNING 1`;
        if (made.length === 0) return;
        await tx`
          UPDATE api_keys SET expires_at = least(expires_at, ${new Date(clock.nowMs + graceMs)})
          WHERE hash = ${hashes[from] ?? null}`;
      }),
    ),
  ),
  key.map((n) =>
    change(
      `revoke key ${n}`,
      ({ sql, clock }) => sql`
        UPDATE api_keys SET revoked_at = ${new Date(clock.nowMs)}
        WHERE hash = ${hashes[n] ?? null} AND revoked_at IS NULL`,
    ),
  ),
  key.map((n) =>
    change(`delete key ${n}`, ({ sql }) => sql`DELETE FROM api_keys WHERE hash = ${hashes[n] ?? null}`),
  ),
  fc
    .tuple(user, flag)
    .map(([name, active]) =>
      change(
        `${active ? "enable" : "disable"} ${name}`,
        ({ sql }) => sql`UPDATE users SET is_active = ${active} WHERE username = ${name}`,
      ),
    ),
  fc
    .tuple(user, flag)
    .map(([name, staff]) =>
      change(
        `${staff ? "promote" : "demote"} ${name}`,
        ({ sql }) => sql`UPDATE users SET is_staff = ${staff} WHERE username = ${name}`,
      ),
    ),
  user.map((name) => change(`delete ${name}`, ({ sql }) => sql`DELETE FROM users WHERE username = ${name}`)),
  user.map((name) => change(`create ${name}`, ({ sql }) => createUsers(sql, [name]))),
  fc.constantFrom(500, 1000, 5000).map((ms) =>
    change(`${ms} ms pass`, async ({ clock }) => {
      clock.nowMs += ms;
    }),
  ),
);

function createUsers(sql: VerdictWorld["sql"], names: string[]) {
  return sql`
    INSERT INTO users (username, username_key) SELECT name, name FROM unnest(${names}::text[]) name
    ON CONFLICT DO NOTHING`;
}

/** An empty database but for the users, and a new clock. */
async function reset(): Promise<void> {
  await world.sql`TRUNCATE users CASCADE`;
  await createUsers(world.sql, usernames);
  world.clock.nowMs = startMs;
  await world.heard();
}

const outcomes = new Set<string>();

async function compare(): Promise<void> {
  world.forget();
  const rows = await readRows(world.sql);
  for (const question of questions) await world.cached(question);
  for (const question of questions) {
    const expected = reference(rows, question, world.clock.nowMs);
    const found = world.cached(question);
    if (question.credential.kind === "api_key") {
      assert.ok(!(found instanceof Promise), "what was asked once is answered from memory");
    }
    const cached = await found;
    const about = { ...question, method: `${question.method.service}/${question.method.name}` };
    assert.deepEqual({ about, verdict: normal(cached) }, { about, verdict: normal(expected) });
    assert.deepEqual(
      { about, verdict: normal(await world.direct(question)) },
      { about, verdict: normal(expected) },
    );
    outcomes.add(expected.denial ?? (expected.principal === undefined ? "anonymous" : "principal"));
  }
}

/** Without the difference between what is undefined and what is not there; of the subject, which may be the principal, what it is for. */
const normal = ({ subject, ...verdict }: Verdict): Verdict => ({
  deniedSinceMs: undefined,
  ...verdict,
  subject: subject && { userId: subject.userId, apiKeyId: subject.apiKeyId },
});

/** Asks once about every credential, without waiting. */
const askAll = () => questions.filter((_, i) => i % 64 === 0).map((question) => world.cached(question));

/** Some changes one after another, with look-ups under way while each is committed and heard. */
async function applyUnderLoad(changes: readonly Change[]): Promise<void> {
  const answers = [];
  world.slow = true;
  for (const [i, { apply }] of changes.entries()) {
    const applied = apply(world);
    answers.push(...askAll());
    await applied;
    answers.push(...askAll());
    if (i % 2 === 1) continue;
    // What this one has dropped is read again now, and answered after the next one.
    await world.heard();
    answers.push(...askAll());
    await world.read();
  }
  world.slow = false;
  await world.heard();
  await Promise.all(answers);
}

const sequences = fc
  .array(fc.array(changes, { minLength: 1, maxLength: 4 }), { minLength: 1, maxLength: 20, size: "max" })
  .map((groups) =>
    Object.assign(groups, {
      [fc.toStringMethod]: () =>
        groups.map((group) => group.map(({ name }) => name).join(", ")).join("; then "),
    }),
  );

test("after any changes of keys and users, and while they are made, the cached verdict is the one of the tables", async () => {
  let steps = 0;
  const property = fc.asyncProperty(sequences, async (groups) => {
    await compare();
    for (const group of groups) {
      await applyUnderLoad(group);
      await compare();
      steps += group.length;
    }
  });
  await fc.assert(property.beforeEach(reset), { numRuns: 50, interruptAfterTimeLimit: 25_000 });
  // What was walked is worth it: every outcome that there is without an outage.
  assert.ok(steps >= 100, `${steps} changes`);
  assert.deepEqual([...outcomes].sort(), [
    "ADDRESS_NOT_ALLOWED",
    "EXPIRED",
    "MALFORMED",
    "METHOD_NOT_ALLOWED",
    "MISSING",
    "REVOKED",
    "STAFF_REQUIRED",
    "UNKNOWN",
    "USER_DISABLED",
    "anonymous",
    "principal",
  ]);
});

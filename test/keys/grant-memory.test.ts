/** Grants in memory: whatever is put, asked for and dropped in whatever order, none outlives its drop or its room. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { createGrant, type Grant } from "../../src/auth/grant.ts";
import { hashToken } from "../../src/auth/token.ts";
import { createGrantMemory } from "../../src/keys/grant-memory.ts";

const owner = (key: number) => BigInt(key % 3);

/** Of a key, or of one of two sessions that it signed in. */
function grantOf(key: number, session: number | undefined, patterns = 0): Grant {
  return createGrant({
    apiKeyId: `key ${key}`,
    userId: owner(key),
    username: `user ${owner(key)}`,
    isStaff: false,
    isActive: true,
    expiresAtMs: undefined,
    revokedAtMs: undefined,
    allowedMethods: Array.from({ length: patterns }, (_, i) => `${"x".repeat(480)}.Service${i}/*`),
    allowedAddresses: [],
    canVerify: false,
    ...(session !== undefined && { session: { id: `session ${key} ${session}`, expiresAtMs: 1e15 } }),
  });
}

/** Kilobytes, by the number of patterns. */
const sizes: Readonly<Record<number, number>> & { 8: number } = { 0: 1, 8: 5, 40: 21 };
/** Keys are looked up by hashes, sessions by names that begin with a word. */
const nameOf = (key: number, session: number | undefined) =>
  session === undefined ? hashToken(`${key}`) : `session ${hashToken(`${key} ${session}`)}`;
const key = fc.nat({ max: 11 });
const session = fc.option(fc.nat({ max: 1 }), { nil: undefined, freq: 2 });
const step = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constant("put" as const),
      key,
      session,
      patterns: fc.constantFrom(0, 0, 8, 40),
    }),
  },
  { weight: 4, arbitrary: fc.record({ do: fc.constantFrom("get" as const, "peek" as const), key, session }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constantFrom("dropKey" as const, "dropUser" as const), key }) },
  {
    weight: 1,
    arbitrary: fc.record({ do: fc.constant("dropSession" as const), key, session: fc.nat({ max: 1 }) }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("clear" as const) }) },
);

test("what is found is what was put last and not dropped since, and no more than there is room for", () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 200 }), fc.integer({ min: 2, max: 8 }), (steps, room) => {
      const memory = createGrantMemory(room);
      const put = new Map<string, Grant>();
      const forget = (is: (grant: Grant) => boolean) => {
        for (const [name, grant] of put) if (is(grant)) put.delete(name);
      };
      for (const next of steps) {
        if (next.do === "put") {
          const name = nameOf(next.key, next.session);
          const grant = grantOf(next.key, next.session, next.patterns);
          memory.put(name, grant);
          put.set(name, grant);
        } else if (next.do === "get" || next.do === "peek") {
          memory[next.do](nameOf(next.key, next.session));
        } else if (next.do === "dropKey") {
          memory.dropKey(`key ${next.key}`);
          forget(({ principal }) => principal.apiKeyId === `key ${next.key}`);
        } else if (next.do === "dropUser") {
          memory.dropUser(owner(next.key));
          forget(({ principal }) => principal.userId === owner(next.key));
        } else if (next.do === "dropSession") {
          memory.dropSession(`session ${next.key} ${next.session}`);
          forget(({ principal }) => principal.sessionId === `session ${next.key} ${next.session}`);
        } else {
          memory.clear();
          put.clear();
        }
        assert.ok(memory.size <= room);
        let found = 0;
        for (let of = 0; of < 12; of++) {
          for (const session of [undefined, 0, 1]) {
            const grant = memory.peek(nameOf(of, session));
            if (grant === undefined) continue;
            found++;
            assert.equal(grant.principal, put.get(nameOf(of, session))?.principal);
            assert.deepEqual(grant.terms, put.get(nameOf(of, session))?.terms);
          }
        }
        assert.equal(found, memory.size, "what is counted can be found");
      }
      // Whatever went before, there is the same room in the end.
      for (let n = 0; n < 20 * room; n++) {
        memory.put(`last ${n}`, grantOf(100 + n, undefined, 8));
        put.set(`last ${n}`, grantOf(100 + n, undefined, 8));
      }
      const left = [...put].filter(([name]) => memory.peek(name) !== undefined);
      const kilobytes = left.reduce((sum, [, { terms }]) => sum + sizes[terms.allowedMethods.length]!, 0);
      assert.equal(left.length, memory.size);
      assert.ok(kilobytes <= 4 * room, `${kilobytes} kB`);
      assert.ok(memory.size === room || kilobytes + sizes[8] > 4 * room, `${kilobytes} kB and no more`);
      assert.ok(memory.peek(`last ${20 * room - 1}`));
    }),
    { numRuns: 300 },
  );
});

test("what is used stays, whatever else comes", () => {
  const memory = createGrantMemory(10);
  memory.put("used", grantOf(0, undefined));
  for (let n = 1; n < 1000; n++) {
    assert.ok(memory.get("used"), `after ${n} others`);
    memory.put(`passing ${n}`, grantOf(n, undefined));
  }
  assert.equal(memory.size, 10);
});

test("what was used once makes room for what is used now", () => {
  const memory = createGrantMemory(10);
  for (let n = 0; n < 10; n++) {
    memory.put(`once ${n}`, grantOf(n, undefined));
    memory.get(`once ${n}`);
  }
  for (let n = 0; n < 10; n++) {
    memory.put(`now ${n}`, grantOf(n, undefined));
    memory.get(`now ${n}`);
  }
  const left = (name: string) =>
    Array.from({ length: 10 }, (_, n) => memory.peek(`${name} ${n}`)).filter(Boolean).length;
  assert.ok(left("now") >= 9, `${left("now")} of 10`);
  assert.equal(memory.size, 10);
});

test("a session is gone after a minute, so that it is read again; a key stays", (context) => {
  const memory = createGrantMemory(10);
  let now = 1000;
  context.mock.method(performance, "now", () => now);
  memory.put("session", grantOf(1, 0));
  memory.put("key", grantOf(1, undefined));
  now += 59_999;
  assert.ok(memory.get("session"));
  assert.ok(memory.peek("session"));
  now += 1;
  assert.equal(memory.size, 2);
  assert.equal(memory.get("session"), undefined);
  assert.equal(memory.size, 1);
  assert.ok(memory.get("key"));
  // What was read again lives as long.
  memory.put("session", grantOf(1, 0));
  now += 59_999;
  assert.ok(memory.get("session"));
  now += 1;
  assert.equal(memory.peek("session"), undefined);
  now += 1e9;
  assert.ok(memory.get("key"));
});

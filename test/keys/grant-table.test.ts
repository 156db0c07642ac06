/** The table of grants in memory: it says what a Map would say, however it grows and wherever hashes fall. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { createGrant, type Grant } from "../../src/auth/grant.ts";
import { hashToken } from "../../src/auth/token.ts";
import { none } from "../../src/keys/grant-part.ts";
import { GrantTable } from "../../src/keys/grant-table.ts";

const facts = {
  ...{ username: "ada", isStaff: false, isActive: true, canVerify: false },
  ...{ expiresAtMs: undefined, revokedAtMs: undefined, allowedMethods: [], allowedAddresses: [] },
};
const grantOf = (n: number): Grant => createGrant({ ...facts, apiKeyId: `key ${n}`, userId: BigInt(n) });

/** A digest of such bytes. */
const digestOf = (bytes: Iterable<number>) => Buffer.from(Uint8Array.from(bytes)).toString("base64");
/** One that differs from another only in a byte. */
const nearly = (n: number) => digestOf(Array.from({ length: 32 }, (_, i) => (i === n % 32 ? n >> 5 : 0)));

const named = {
  "names that are digests": (n: number) => hashToken(`token ${n}`),
  "names that are none": (n: number) => `session ${hashToken(`token ${n}`)}`,
  "digests that differ in a byte": (n: number) => nearly(n + 32),
};
/** By their factors, which make a hash of a digest. */
const hashed = {
  "hashes as they come": undefined,
  "hashes that are all the same": new Int32Array(8),
  // The sum of the words.
  "hashes that come in runs": new Int32Array(8).fill(1),
};

/** As a caller uses it: entries have numbers that are given again. */
function tableAndModel(maxEntries: number, factors: Int32Array<ArrayBuffer> | undefined) {
  const table = new GrantTable(maxEntries, factors);
  const model = new Map<string, { grant: Grant; entry: number; used: boolean; timed: boolean }>();
  const free: number[] = [];
  return {
    table,
    model,
    put(name: string, grant: Grant, timed: boolean) {
      if (model.has(name)) return;
      const entry = free.pop() ?? model.size;
      table.add(name, entry, grant, timed);
      model.set(name, { grant, entry, timed, used: false });
    },
    remove(name: string) {
      const at = table.find(name);
      const held = model.get(name);
      assert.equal(at !== none, held !== undefined);
      if (held === undefined) return;
      assert.equal(table.placeOf(held.entry), at);
      table.remove(at);
      model.delete(name);
      free.push(held.entry);
    },
    use(name: string) {
      const at = table.find(name);
      const held = model.get(name);
      if (held === undefined) return;
      table.use(at);
      held.used = true;
    },
    takeUse(name: string) {
      const at = table.find(name);
      const held = model.get(name);
      if (held === undefined) return;
      assert.equal(table.takeUse(at), held.used);
      held.used = false;
    },
    check(names: Iterable<string>) {
      for (const name of names) {
        const at = table.find(name);
        const held = model.get(name);
        assert.equal(at !== none, held !== undefined, name);
        if (held === undefined) continue;
        assert.equal(table.principalAt(at), held.grant.principal);
        assert.equal(table.termsAt(at), held.grant.terms);
        assert.equal(table.entryAt(at), held.entry);
        assert.equal(table.placeOf(held.entry), at);
        assert.equal(table.isTimed(at), held.timed);
      }
    },
  };
}

const step = fc.record({
  do: fc.constantFrom(...(["put", "put", "put", "remove", "remove", "use", "takeUse"] as const)),
  n: fc.nat({ max: 79 }),
  timed: fc.boolean(),
});

for (const [which, nameOf] of Object.entries(named)) {
  for (const [how, factors] of Object.entries(hashed)) {
    test(`${which}, ${how}: found is what was added and not removed since`, () => {
      const names = Array.from({ length: 80 }, (_, n) => nameOf(n));
      assert.equal(new Set(names).size, 80);
      fc.assert(
        fc.property(fc.array(step, { maxLength: 300 }), fc.constantFrom(1, 200_000), (steps, room) => {
          const both = tableAndModel(room, factors);
          for (const next of steps) {
            const name = names[next.n]!;
            if (next.do === "put") both.put(name, grantOf(next.n), next.timed);
            else both[next.do](name);
          }
          both.check(names);
          for (const name of names) both.takeUse(name);
          for (const name of names) both.remove(name);
          both.check(names);
        }),
        { numRuns: 60 },
      );
    });
  }
}

test("it grows to a hundred thousand, and each is found meanwhile and when half are gone", () => {
  const both = tableAndModel(100_000, undefined);
  const names = Array.from({ length: 100_000 }, (_, n) => hashToken(`token ${n}`));
  for (const [n, name] of names.entries()) {
    both.put(name, grantOf(n), n % 7 === 0);
    both.use(name);
    // A few that are there, and the next, which is not.
    both.check([names[n >> 1]!, names[n >> 3]!, name, names[n + 1] ?? "none"]);
  }
  both.check(names);
  for (let n = 0; n < names.length; n += 2) both.remove(names[n]!);
  both.check(names);
  for (const name of names) both.takeUse(name);
});

test("a name and its digest, which somebody may import, are two", () => {
  const both = tableAndModel(10, undefined);
  const name = `session ${hashToken("of a session")}`;
  both.put(name, grantOf(1), true);
  both.check([name, hashToken(name)]);
  both.put(hashToken(name), grantOf(2), false);
  both.check([name, hashToken(name)]);
  both.remove(name);
  both.check([name, hashToken(name)]);
});

test("what is cleared is not found, and there is room for as much again", () => {
  const both = tableAndModel(100_000, undefined);
  const names = Array.from({ length: 1000 }, (_, n) => hashToken(`token ${n}`));
  for (let round = 0; round < 3; round++) {
    for (const [n, name] of names.entries()) both.put(name, grantOf(n), false);
    both.check(names);
    both.table.clear();
    both.model.clear();
    both.check(names);
  }
});

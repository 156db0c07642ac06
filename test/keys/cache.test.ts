/** The cache of grants: what it answers from memory, what it reads again and what it refuses to say. */
import assert from "node:assert/strict";
import { test } from "node:test";
import {
  createGrant,
  type Grant,
  type GrantChange,
  type GrantFacts,
  GrantsUnavailableError,
} from "../../src/auth/grant.ts";
import { createGrantCache, type GrantCacheOptions } from "../../src/keys/cache.ts";

const apiKeyId = "01890a5d-ac96-774b-bcce-b302099a8057";
const facts: GrantFacts = {
  apiKeyId,
  userId: 7n,
  username: "ada",
  isStaff: false,
  isActive: true,
  expiresAtMs: undefined,
  revokedAtMs: undefined,
  allowedMethods: [],
  allowedAddresses: [],
  canVerify: false,
};
const grant = createGrant(facts);
const revoked: Grant = { ...grant, terms: { ...grant.terms, revokedAtMs: 1 } };

/** A cache over a database and a fence that the test holds in its hands. */
function setUp(options: Partial<GrantCacheOptions> = {}) {
  const listeners = new Set<(change: GrantChange) => void>();
  let tellUp = (_up: boolean): void => {};
  const world = {
    setDatabaseUp: (up: boolean) => tellUp(up),
    fresh: true,
    provenAtMs: performance.now(),
    reads: 0,
    read: async (_hash: string): Promise<Grant | undefined> => grant,
    importedReads: 0,
    readImported: async () => false,
    tell(change: GrantChange) {
      for (const listen of listeners) listen(change);
    },
  };
  const cache = createGrantCache({
    async readGrants(hashes) {
      world.reads += hashes.length;
      const grants = await Promise.all(hashes.map(world.read));
      return new Map(hashes.flatMap((hash, i) => (grants[i] === undefined ? [] : [[hash, grants[i]]])));
    },
    hasImportedKeys() {
      world.importedReads++;
      return world.readImported();
    },
    readFirstStaffUser: async () => ({ userId: 1n, username: "admin" }),
    fence: {
      isFresh: () => world.fresh,
      caughtUp: async () => {},
      provenAtMs: () => world.provenAtMs,
      onChange(listen) {
        listeners.add(listen);
        return () => listeners.delete(listen);
      },
      onDatabaseUp(listen) {
        tellUp = listen;
        return () => {};
      },
      close: async () => {},
    },
    maxStalenessMs: 2000,
    staleIfErrorMs: 0,
    maxEntries: 100,
    ...options,
  });
  return { world, cache };
}

/** A promise that the test settles. */
function held<T>() {
  return Promise.withResolvers<T>();
}

test("a grant that was read once is answered from memory, without a promise", async () => {
  const { world, cache } = setUp();
  assert.deepEqual(await cache.find("a", false), grant);
  assert.deepEqual(cache.find("a", false), grant);
  assert.equal(world.reads, 1);
});

test("look-ups of one key at the same time share one read", async () => {
  const { world, cache } = setUp();
  await Promise.all(Array.from({ length: 10 }, () => cache.find("a", false)));
  assert.equal(world.reads, 1);
});

for (const [name, change] of [
  ["its key changes", { kind: "key", apiKeyId }],
  ["its user changes", { kind: "user", userId: 7n }],
  ["something may have been missed", { kind: "all" }],
] as const) {
  test(`a grant is read again once ${name}`, async () => {
    const { world, cache } = setUp();
    await cache.find("a", false);
    world.read = async () => revoked;
    world.tell(change);
    assert.equal((await cache.find("a", false))?.terms.revokedAtMs, 1);
  });

  test(`a read that began before ${name} neither answers nor comes back into memory`, async () => {
    const { world, cache } = setUp();
    const slow = held<Grant>();
    world.read = () => slow.promise;
    const found = cache.find("a", false);
    world.tell(change);
    world.read = async () => revoked;
    slow.resolve(grant);
    assert.equal((await found)?.terms.revokedAtMs, 1);
    assert.equal((await cache.find("a", false))?.terms.revokedAtMs, 1);
  });
}

test("a read that was overtaken is found out though another look-up ended in between", async () => {
  const { world, cache } = setUp();
  const slow = held<Grant>();
  const other = held<Grant>();
  world.read = (hash) => (hash === "a" ? slow : other).promise;
  const found = [cache.find("a", false), cache.find("b", false)];
  world.tell({ kind: "key", apiKeyId });
  other.resolve(createGrant({ ...facts, apiKeyId: "b" }));
  await found[1];
  world.read = async () => revoked;
  slow.resolve(grant);
  assert.equal((await found[0])?.terms.revokedAtMs, 1);
});

test("a change of another key leaves a grant in memory and a read that is under way alone", async () => {
  const { world, cache } = setUp();
  await cache.find("a", false);
  const slow = held<Grant>();
  world.read = () => slow.promise;
  const found = cache.find("b", false);
  world.tell({ kind: "key", apiKeyId: "01890a5d-ac96-774b-bcce-000000000000" });
  slow.resolve(createGrant({ ...facts, apiKeyId: "b" }));
  await found;
  assert.deepEqual(cache.find("a", false), grant);
  assert.equal(world.reads, 2);
});

test("an unknown token is read once, and again after a key was created: it may be that key's", async () => {
  const { world, cache } = setUp();
  world.read = async () => undefined;
  await cache.find("new", false);
  assert.equal(cache.find("new", false), undefined);
  assert.equal(world.reads, 1);
  world.read = async () => grant;
  world.tell({ kind: "new_key" });
  assert.deepEqual(await cache.find("new", false), grant);
});

test("a token that becomes known while it is looked up is not remembered as unknown", async () => {
  const { world, cache } = setUp();
  const slow = held<undefined>();
  world.read = () => slow.promise;
  const found = cache.find("new", false);
  world.tell({ kind: "new_key" });
  world.read = async () => grant;
  slow.resolve(undefined);
  assert.deepEqual(await found, grant);
});

test("while the fence is not fresh, every look-up reads and nothing is kept", async () => {
  const { world, cache } = setUp();
  await cache.find("a", false);
  world.fresh = false;
  await cache.find("a", false);
  await cache.find("a", false);
  assert.equal(world.reads, 3);
  await cache.find("b", false);
  world.fresh = true;
  await cache.find("b", false);
  assert.equal(world.reads, 5);
});

test("while the fence is not fresh, a look-up is answered by a read that began after it, shared with its like", async () => {
  const { world, cache } = setUp();
  world.fresh = false;
  const slow = held<Grant>();
  world.read = () => slow.promise;
  const first = cache.find("a", false);
  // The key is revoked now, which the read under way may or may not see.
  world.read = async () => revoked;
  const later = [cache.find("a", false), cache.find("a", false), cache.find("a", false)];
  assert.equal(world.reads, 1);
  slow.resolve(grant);
  assert.equal((await first)?.terms.revokedAtMs, undefined);
  for (const found of later) assert.equal((await found)?.terms.revokedAtMs, 1);
  assert.equal(world.reads, 2);
});

test("a grant that was read while the fence went down is not kept", async () => {
  const { world, cache } = setUp();
  const slow = held<Grant>();
  world.read = () => slow.promise;
  const found = cache.find("a", false);
  world.fresh = false;
  slow.resolve(grant);
  await found;
  world.fresh = true;
  world.read = async () => revoked;
  assert.equal((await cache.find("a", false))?.terms.revokedAtMs, 1);
});

test("a database that fails is no verdict, though the key is cached, once the fence is not fresh", async () => {
  const { world, cache } = setUp();
  await cache.find("a", false);
  world.read = async () => Promise.reject(new Error("connection refused"));
  assert.deepEqual(cache.find("a", false), grant);
  world.fresh = false;
  await assert.rejects(async () => cache.find("a", false), GrantsUnavailableError);
  await assert.rejects(async () => cache.find("b", false), GrantsUnavailableError);
});

test("with staleIfErrorMs a cached key answers without a read once the database is known to fail, and no longer than that", async () => {
  const { world, cache } = setUp({ staleIfErrorMs: 60_000 });
  await cache.find("a", false);
  world.fresh = false;
  world.setDatabaseUp(false);
  assert.deepEqual(cache.find("a", false), grant);
  assert.equal(world.reads, 1);
  world.provenAtMs = performance.now() - 60_001;
  world.read = async () => revoked;
  assert.equal(await cache.find("a", false), revoked);
  world.provenAtMs = performance.now();
  world.setDatabaseUp(true);
  assert.equal(await cache.find("a", false), revoked);
  assert.equal(world.reads, 3);
});

test("a read that fails is tried once more, unless the database is known to fail", async () => {
  const { world, cache } = setUp();
  const failOnce = () => {
    world.read = async () => {
      world.read = async () => grant;
      throw new Error("connection lost");
    };
  };
  failOnce();
  assert.deepEqual(await cache.find("a", false), grant);
  assert.equal(world.reads, 2);
  world.setDatabaseUp(false);
  failOnce();
  await assert.rejects(async () => cache.find("b", false));
  assert.equal(world.reads, 3);
});

test("with staleIfErrorMs a cached key answers while the database fails, that long and no longer", async () => {
  const { world, cache } = setUp({ staleIfErrorMs: 60_000 });
  await cache.find("a", false);
  world.fresh = false;
  world.read = async () => Promise.reject(new Error("connection refused"));
  assert.deepEqual(await cache.find("a", false), grant);
  await assert.rejects(async () => cache.find("unseen", false), GrantsUnavailableError);
  world.provenAtMs = performance.now() - 60_001;
  await assert.rejects(async () => cache.find("a", false), GrantsUnavailableError);
});

test("a database that never answers is no verdict, after maxStalenessMs", async () => {
  const { world, cache } = setUp({ maxStalenessMs: 20 });
  world.read = () => held<Grant>().promise;
  await assert.rejects(async () => cache.find("a", false), GrantsUnavailableError);
});

test("look-ups at once are bounded: beyond, there is no verdict", async () => {
  const { world, cache } = setUp({ maxStalenessMs: 50 });
  world.read = () => held<Grant>().promise;
  const found = await Promise.allSettled(
    Array.from({ length: 6000 }, async (_, i) => cache.find(String(i), false)),
  );
  assert.equal(world.reads, 4);
  assert.ok(found.every(({ status }) => status === "rejected"));
});

test("grants in memory are bounded", async () => {
  const { world, cache } = setUp({ maxEntries: 2 });
  world.read = async (hash) => createGrant({ ...facts, apiKeyId: hash });
  for (const hash of ["a", "b", "c"]) await cache.find(hash, false);
  await cache.find("a", false);
  assert.equal(world.reads, 4);
});

test("a key or user that is new drops nothing", async () => {
  const { world, cache } = setUp();
  await cache.find("a", false);
  world.tell({ kind: "new_key" });
  world.tell({ kind: "new_user" });
  assert.deepEqual(cache.find("a", false), grant);
});

test("a change of a user drops all of the user's keys", async () => {
  const { world, cache } = setUp();
  world.read = async (hash) => createGrant({ ...facts, apiKeyId: hash });
  for (const hash of ["a", "b"]) await cache.find(hash, false);
  world.tell({ kind: "user", userId: 7n });
  for (const hash of ["a", "b"]) await cache.find(hash, false);
  assert.equal(world.reads, 4);
});

test("without imported keys a token of another shape is never looked up", async () => {
  const { world, cache } = setUp();
  assert.equal(await cache.find("foreign", true), undefined);
  // Without a promise, from the second one on.
  for (const hash of ["foreign", "another", "third"]) assert.equal(cache.find(hash, true), undefined);
  assert.deepEqual([world.importedReads, world.reads], [1, 0]);
});

test("whether there are imported keys is read once for all who ask at the same time", async () => {
  const { world, cache } = setUp();
  await Promise.all(Array.from({ length: 50 }, (_, i) => cache.find(String(i), true)));
  assert.deepEqual([world.importedReads, world.reads], [1, 0]);
});

test("with imported keys a token of another shape is looked up as any other, and found or remembered as unknown", async () => {
  const { world, cache } = setUp();
  world.readImported = async () => true;
  world.read = async (hash) => (hash === "imported" ? grant : undefined);
  assert.deepEqual(await cache.find("imported", true), grant);
  assert.equal(await cache.find("foreign", true), undefined);
  assert.deepEqual(cache.find("imported", true), grant);
  assert.equal(cache.find("foreign", true), undefined);
  assert.deepEqual([world.importedReads, world.reads], [1, 2]);
});

for (const kind of ["new_key", "all"] as const) {
  test(`whether there are imported keys is read again after ${kind}: one may have been imported`, async () => {
    const { world, cache } = setUp();
    assert.equal(await cache.find("imported", true), undefined);
    world.readImported = async () => true;
    world.tell({ kind });
    assert.deepEqual(await cache.find("imported", true), grant);
  });

  test(`a read of whether there are imported keys that began before ${kind} does not answer`, async () => {
    const { world, cache } = setUp();
    const slow = held<boolean>();
    world.readImported = () => slow.promise;
    const found = cache.find("imported", true);
    world.tell({ kind });
    world.readImported = async () => true;
    slow.resolve(false);
    assert.deepEqual(await found, grant);
  });
}

test("a change of a key or user, or a new user, does not make it read again whether there are imported keys", async () => {
  const { world, cache } = setUp();
  await cache.find("foreign", true);
  world.tell({ kind: "key", apiKeyId });
  world.tell({ kind: "user", userId: 7n });
  world.tell({ kind: "new_user" });
  assert.equal(cache.find("foreign", true), undefined);
  assert.equal(world.importedReads, 1);
});

test("a thousand new keys at once make one look-up read whether there are imported keys, once", async () => {
  const { world, cache } = setUp();
  await cache.find("foreign", true);
  for (let i = 0; i < 1000; i++) world.tell({ kind: "new_key" });
  await Promise.all([cache.find("foreign", true), cache.find("another", true)]);
  assert.equal(world.importedReads, 2);
});

test("a new key drops the unknown tokens of another shape too", async () => {
  const { world, cache } = setUp();
  world.readImported = async () => true;
  world.read = async () => undefined;
  await cache.find("foreign", true);
  world.read = async () => grant;
  world.tell({ kind: "new_key" });
  assert.deepEqual(await cache.find("foreign", true), grant);
});

test("while the fence is not fresh, every token of another shape is looked up, whatever was known of imported keys", async () => {
  const { world, cache } = setUp();
  world.read = async () => undefined;
  await cache.find("foreign", true);
  world.fresh = false;
  // One is imported now, and nobody hears of it.
  world.read = async () => grant;
  assert.deepEqual(await cache.find("foreign", true), grant);
  assert.deepEqual([world.importedReads, world.reads], [1, 1]);
});

test("that there are no imported keys is not kept when it was read while the fence went down", async () => {
  const { world, cache } = setUp();
  const slow = held<boolean>();
  world.readImported = () => slow.promise;
  const found = cache.find("foreign", true);
  world.fresh = false;
  slow.resolve(false);
  await found;
  world.fresh = true;
  world.readImported = async () => true;
  assert.deepEqual(await cache.find("foreign", true), grant);
});

test("a database that fails is no verdict on a token of another shape, until it is known that none is imported", async () => {
  const { world, cache } = setUp();
  world.readImported = async () => Promise.reject(new Error("connection refused"));
  await assert.rejects(async () => cache.find("foreign", true), GrantsUnavailableError);
  world.readImported = async () => false;
  assert.equal(await cache.find("foreign", true), undefined);
});

test("grants of many patterns and addresses take the room of several, and one too large is read each time", async () => {
  const { world, cache } = setUp({ maxEntries: 25 });
  const large = { allowedMethods: Array.from({ length: 20 }, (_, i) => `pkg${i}.${"x".repeat(500)}/*`) };
  world.read = async (hash) =>
    createGrant({ ...facts, ...(hash.startsWith("large") && large), apiKeyId: hash });
  const cached = async (hash: string) => {
    const { reads } = world;
    await cache.find(hash, false);
    return world.reads === reads;
  };
  for (let i = 0; i < 25; i++) await cache.find(`small ${i}`, false);
  assert.equal(await cached("small 0"), true, "25 small ones");
  for (let i = 0; i < 25; i++) await cache.find(`large ${i}`, false);
  let left = 0;
  while (await cached(`large ${24 - left}`)) left++;
  assert.equal(left, 9, "of 11 kB each, in 100 kB");

  const tiny = setUp({ maxEntries: 1 });
  tiny.world.read = world.read;
  for (let i = 0; i < 3; i++) await tiny.cache.find("large", false);
  assert.equal(tiny.world.reads, 3);
});

/** Look-ups of grants: how many go into a statement, whose turn it is, and whom there is no room for. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { type Grant, GrantsUnavailableError } from "../../src/auth/grant.ts";
import { createGrantLookups, type LookupSource } from "../../src/keys/lookups.ts";
import { until } from "../harness/until.ts";

const grantOf = (hash: string) => ({ principal: { apiKeyId: hash } }) as Grant;

/** Look-ups over a database that answers when the test says so. */
function setUp(timeoutMs = 5000) {
  const statements: { hashes: readonly string[]; answer: () => void; fail: (error: Error) => void }[] = [];
  const lookups = createGrantLookups({
    readGrants(hashes) {
      const { promise, resolve, reject } = Promise.withResolvers<Map<string, Grant>>();
      const answer = () => resolve(new Map(hashes.map((hash) => [hash, grantOf(hash)])));
      statements.push({ hashes, answer, fail: reject });
      return promise;
    },
    timeoutMs,
  });
  const read = (hash: string, source: LookupSource) => {
    const found = lookups.read(hash, source);
    // Nobody waits for some: what is never answered fails in the end.
    found.catch(() => {});
    return found;
  };
  return {
    statements,
    read: (hash: string, address = "192.0.2.1") => read(hash, { address }),
    readKnown: (hash: string) => read(hash, "known"),
    /** Has every statement under way, so that what comes next waits. */
    occupy() {
      const first = Array.from({ length: 4 }, (_, i) => read(`first ${i}`, { address: "occupier" }));
      assert.equal(statements.length, 4);
      return first;
    },
  };
}

const refused = (read: Promise<unknown>) => assert.rejects(read, GrantsUnavailableError);

/** Takes up as many places as a source gets; returns their number. What fails later is nobody's. */
async function flood(read: (n: number) => Promise<unknown>, most = 5000): Promise<number> {
  let refusals = 0;
  for (let n = 0; n < most; n++) {
    read(n).catch((error: Error) => {
      if (error.message === "too many look-ups at once") refusals++;
    });
  }
  await new Promise(setImmediate);
  return most - refusals;
}

test("what comes while every statement is under way goes into the next one, in one", async () => {
  const { statements, read, occupy } = setUp();
  occupy();
  const later = Array.from({ length: 60 }, (_, i) => read(`later ${i}`));
  assert.equal(statements.length, 4);
  statements[0]?.answer();
  await until(
    () => statements.length,
    (n) => n === 5,
  );
  assert.equal(statements[4]?.hashes.length, 60);
  statements[4]?.answer();
  assert.deepEqual(
    await Promise.all(later),
    Array.from({ length: 60 }, (_, i) => grantOf(`later ${i}`)),
  );
});

test("a statement takes one of each source before it takes a second of any, and known keys first of all", async () => {
  const { statements, read, readKnown, occupy } = setUp();
  occupy();
  for (let i = 0; i < 500; i++) void read(`flood ${i}`);
  for (const n of [1, 2, 3]) void read(`good ${n}`, `198.51.100.${n}`);
  void readKnown("known");
  statements[0]?.answer();
  await until(
    () => statements.length,
    (n) => n === 5,
  );
  assert.deepEqual(statements[4]?.hashes.slice(0, 6), [
    "known",
    "flood 0",
    "good 1",
    "good 2",
    "good 3",
    "flood 1",
  ]);
  assert.equal(statements[4]?.hashes.length, 64);
});

test("one source that floods fills half of the line, and another still finds a place", async () => {
  const { read, readKnown, occupy } = setUp();
  occupy();
  assert.equal(await flood((n) => read(String(n))), 1024);
  assert.equal(await flood((n) => read(`other ${n}`, "198.51.100.1")), 512);
  assert.equal(await flood((n) => readKnown(`known ${n}`)), 5000);
});

test("a thousand sources that flood leave a place", async () => {
  const { read, occupy } = setUp();
  occupy();
  await flood((n) => read(String(n), `203.0.${n % 4}.${n % 250}`), 20_000);
  assert.equal(await flood((n) => read(`good ${n}`, "198.51.100.1"), 1), 1);
});

test("the addresses of one IPv6 network of 64 bits are one source, IPv4 addresses are each their own", async () => {
  const { read, occupy } = setUp();
  occupy();
  assert.equal(await flood((n) => read(String(n), `2001:db8::${n.toString(16)}`)), 1024);
  await refused(read("one more", "2001:db8::ffff:1"));
  void read("beside it", "2001:db8:0:1::1");
});

test("places are free again once their look-ups were answered, or failed", async () => {
  const { statements, read, occupy } = setUp();
  occupy();
  assert.equal(await flood((n) => read(String(n))), 1024);
  for (let done = 0; done < statements.length; done++) {
    if (done % 2 === 0) statements[done]?.answer();
    else statements[done]?.fail(new Error("connection lost"));
    await new Promise(setImmediate);
  }
  assert.equal(statements.length, 4 + 1024 / 64);
  occupyAgain(statements, read);
  assert.equal(await flood((n) => read(`again ${n}`)), 1024);
});

function occupyAgain(statements: unknown[], read: (hash: string) => unknown) {
  const before = statements.length;
  for (let i = 0; i < 4; i++) void read(`occupy ${i}`);
  assert.equal(statements.length, before + 4);
}

test("a statement that fails fails its look-ups and no others", async () => {
  const { statements, read } = setUp();
  const [failed, fine] = [read("failed"), read("fine")];
  statements[0]?.fail(new Error("connection lost"));
  statements[1]?.answer();
  await assert.rejects(failed, /connection lost/);
  assert.deepEqual(await fine, grantOf("fine"));
});

test("statements that are never answered do not keep their places", async () => {
  const { statements, read, occupy } = setUp(20);
  const first = occupy();
  await Promise.allSettled(first);
  const later = read("later");
  assert.equal(statements.length, 5);
  statements[4]?.answer();
  assert.deepEqual(await later, grantOf("later"));
});

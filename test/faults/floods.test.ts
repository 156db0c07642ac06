/** Floods of keys that nobody has: they do not make a statement each, and good keys are served meanwhile. */
import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { connect } from "node:http2";
import { after, before, test } from "node:test";
import type postgres from "postgres";
import { openSql } from "../harness/postgres.ts";
import { noteSecret } from "../harness/secrets.ts";
import { lookupsSeen, watchStatements } from "../harness/statements-seen.ts";
import { codeOf, flood } from "./flood.ts";
import { startTarget, type Target } from "./target.ts";
import { createUnknownToken } from "./tokens.ts";

const calls = 6000;
let target: Target;
let sql: postgres.Sql;
before(async () => {
  target = await startTarget({
    LATCHKEY_TRUSTED_PROXIES: "127.0.0.1",
    // Long enough for what waits here to be answered on a slow machine.
    LATCHKEY_CACHE_MAX_STALENESS_MS: "20000",
  });
  sql = openSql(target.databaseUrl);
});
after(async () => {
  await sql.end();
  target.callers.close();
  process.kill(target.pid, "SIGTERM");
});

/** Keys that are in nobody's memory. */
async function createKeys(count: number): Promise<string[]> {
  const created = await Promise.all(
    Array.from({ length: count }, () =>
      target.asStaff.keys.createApiKey({ userId: target.userId, name: "new" }),
    ),
  );
  return created.map(({ token }) => noteSecret(token));
}

const anyShape = () => noteSecret(randomBytes(9 + Math.floor(Math.random() * 20)).toString("hex"));
const anyAddress = () => `203.${[...randomBytes(3)].join(".")}`;

const floods = [
  ["tokens of our shape", createUnknownToken, undefined],
  ["tokens of our shape, each from another address", createUnknownToken, anyAddress],
  ["tokens of any shape where there are imported keys", anyShape, undefined],
] as const;

for (const [name, token, address] of floods) {
  test(`${name}, that nobody has, make far fewer statements than calls, and good keys are served`, async (t) => {
    if (token === anyShape) {
      const hash = createHash("sha256").update(anyShape()).digest("hex");
      await target.asStaff.keys.importApiKeys({
        apiKeys: [{ hash, userId: target.userId, name: "imported" }],
      });
    }
    const fresh = await createKeys(50);
    target.callers.resume();
    await target.callers.callMore(200);
    const quiet = target.callers.report();
    await watchStatements(sql);

    target.callers.resume();
    const startedMs = performance.now();
    const flooding = flood({
      url: target.url,
      connections: 8,
      streams: 100,
      calls,
      token,
      ...(address && { address }),
    });
    const firstUse: number[] = [];
    const session = connect(target.url);
    for (const key of fresh) {
      const beganMs = performance.now();
      assert.equal(await codeOf(session, key), "ok", "a good key that is not in memory");
      firstUse.push(performance.now() - beganMs);
    }
    session.close();
    const ended = await flooding;
    const tookS = (performance.now() - startedMs) / 1000;
    target.callers.pause();
    const flooded = target.callers.report();
    const statements = await lookupsSeen(sql);

    firstUse.sort((a, b) => a - b);
    t.diagnostic(
      `${calls} calls in ${tookS.toFixed(1)} s: ${[...ended].join(" ")}; ${statements} statements, 1 for ${(calls / statements).toFixed(0)} calls; ` +
        `keys in memory: p99 ${quiet.p99Ms} ms before, ${flooded.p99Ms} ms meanwhile, ${flooded.calls} calls, ${flooded.errors.length} failed; ` +
        `keys not in memory: median ${firstUse[25]?.toFixed(0)} ms, longest ${firstUse.at(-1)?.toFixed(0)} ms`,
    );
    assert.deepEqual([...ended.keys()], ["unauthenticated"]);
    assert.deepEqual(flooded.errors, []);
    assert.ok(statements > 0 && statements < calls / 2, `${statements} statements`);
  });
}

test("sent again, unknown tokens make no statement", async () => {
  const tokens = Array.from({ length: 100 }, createUnknownToken);
  let n = 0;
  const again = { url: target.url, connections: 2, streams: 50, token: () => tokens[n++ % 100] ?? "" };
  await flood({ ...again, calls: 100 });
  await watchStatements(sql);
  assert.deepEqual([...(await flood({ ...again, calls: 2000 }))], [["unauthenticated", 2000]]);
  assert.equal(await lookupsSeen(sql), 0);
});

/** Runs while no look-up is answered, as on a database that is very slow; then all are. */
async function whileLookupsWait(
  sql: postgres.Sql,
  run: (release: () => void) => Promise<void>,
): Promise<void> {
  const released = Promise.withResolvers<void>();
  const locked = Promise.withResolvers<void>();
  const lock = sql.begin(async (tx) => {
    await tx`LOCK TABLE api_keys IN ACCESS EXCLUSIVE MODE`;
    locked.resolve();
    await released.promise;
  });
  await locked.promise;
  try {
    await run(released.resolve);
  } finally {
    released.resolve();
    await lock;
  }
}

test("while look-ups wait, a flood is told to try again; good keys from elsewhere wait for their turn, and have it", async (t) => {
  const [here, ...elsewhere] = await createKeys(21);
  target.callers.resume();
  await target.callers.callMore(100);
  const quiet = target.callers.report();
  await watchStatements(sql);
  let ended = new Map<string, number>();
  let good: string[] = [];
  let late = "";
  const session = connect(target.url);
  await whileLookupsWait(sql, async (release) => {
    target.callers.resume();
    const refused = Promise.withResolvers<void>();
    const flooding = flood({
      url: target.url,
      connections: 10,
      streams: 200,
      calls: 4000,
      token: createUnknownToken,
      onEnd: (code) => code === "unavailable" && refused.resolve(),
    });
    // Half of the line is the flood's: what else comes from its address is refused.
    await refused.promise;
    late = await codeOf(session, here ?? "");
    const waiting = elsewhere.map((key, i) => codeOf(session, key, `198.51.100.${i}`));
    await target.callers.callMore(100);
    release();
    good = await Promise.all(waiting);
    ended = await flooding;
  });
  session.close();
  target.callers.pause();
  const waited = target.callers.report();
  t.diagnostic(
    `the flood: ${[...ended].join(" ")} with ${await lookupsSeen(sql)} statements; a good key from its address: ${late}; good keys from elsewhere: ` +
      `${good.filter((code) => code === "ok").length} of ${good.length} ok; keys in memory: p99 ${quiet.p99Ms} ms before, ${waited.p99Ms} ms meanwhile, ${waited.errors.length} of ${waited.calls} failed`,
  );
  assert.deepEqual(waited.errors, [], "keys in memory are served");
  assert.deepEqual(
    good,
    elsewhere.map(() => "ok"),
  );
  assert.equal(late, "unavailable", "never unauthenticated: nobody knows whether it is good");
  assert.ok([...ended.keys()].every((code) => ["unauthenticated", "unavailable"].includes(code)));
});

test("credentials that wait hold a quarter of the room for calls at most: keys in memory have the rest", async (t) => {
  const small = await startTarget({
    LATCHKEY_MAX_CONCURRENT_RPCS: "200",
    LATCHKEY_CACHE_MAX_STALENESS_MS: "20000",
  });
  const smallSql = openSql(small.databaseUrl);
  let ended = new Map<string, number>();
  await whileLookupsWait(smallSql, async (release) => {
    small.callers.resume();
    const flooding = flood({
      url: small.url,
      connections: 2,
      streams: 200,
      calls: 3000,
      token: createUnknownToken,
    });
    await small.callers.callMore(200);
    release();
    ended = await flooding;
  });
  await smallSql.end();
  small.callers.pause();
  const { calls: answered, errors, p99Ms } = small.callers.report();
  t.diagnostic(
    `3,000 bad calls where 200 may run: ${[...ended].join(" ")}; keys in memory: ${answered} calls, ${errors.length} failed, p99 ${p99Ms} ms`,
  );
  await small.stop(t);
  assert.deepEqual(errors, []);
  assert.ok((ended.get("resource_exhausted") ?? 0) > 0);
});

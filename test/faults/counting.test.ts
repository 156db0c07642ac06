/** Exact counts through kill -9: which answered calls are lost, and which never are. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { database } from "../../src/db/client.ts";
import { createPackStore } from "../../src/usage/pack-store.ts";
import { until } from "../harness/until.ts";
import { epochMs, figures } from "./figures.ts";
import { type Fleet, type FleetKey, startFleet } from "./fleet.ts";
import { type CallResult, startLoad } from "./load.ts";
import { assertCountsAgree, assertEachOnce, rowsOf } from "./tally.ts";

const servers = 3;
const kills = 12;
/** A start takes seconds where the machine has other things to do. */
const timeout = 300_000;
/** What `batched` promises: a commit follows at least so often. */
const intervalMs = 100;

/** By URL, when a server was killed; on the clock of performance.now(). */
type Killed = Map<string, number>;

interface Outcome {
  readonly keys: FleetKey[];
  readonly results: CallResult[];
  readonly killed: Killed;
}

/** Kills servers at random moments under load and starts others in their place; stops the last ones cleanly. */
async function killUnderLoad(fleet: Fleet): Promise<Outcome> {
  const keys = await Promise.all(Array.from({ length: 5 }, () => fleet.newKey()));
  const urls = fleet.servers.map(({ url }) => url);
  const results: CallResult[] = [];
  const load = startLoad({
    urls,
    tokens: keys.map(({ token }) => token),
    userId: 1n,
    clients: 12,
    pauseMs: 2,
    onResult: (result) => results.push(result),
  });
  const killed: Killed = new Map();
  const starts: Promise<unknown>[] = [];
  for (let n = 0; n < kills; n++) {
    const enough = results.length + 50 + Math.random() * 200;
    await until(
      () => results.length,
      (found) => found > enough,
    );
    await sleep(Math.random() * intervalMs);
    const victim = fleet.servers[Math.floor(Math.random() * fleet.servers.length)]!;
    killed.set(victim.url, performance.now());
    await fleet.end(victim, "SIGKILL");
    urls.splice(urls.indexOf(victim.url), 1);
    starts.push(fleet.add().then(({ url }) => urls.push(url)));
    await until(
      () => urls.length,
      (running) => running > 1,
    );
  }
  await Promise.all(starts);
  await load.stop();
  await Promise.all([...fleet.servers].map((server) => fleet.end(server, "SIGTERM")));
  // What a killed server had sent may still be under way within Postgres.
  await until(
    async () =>
      (
        await fleet.sql`SELECT FROM pg_stat_activity
          WHERE datname = current_database() AND application_name = 'latchkey usage'`
      ).length,
    (writers) => writers === 0,
  );
  return { keys, results, killed };
}

/** Lays out what the last ones have left, and returns how many rows it was. */
async function layOut({ sql }: Fleet): Promise<number> {
  const store = createPackStore(database(sql), database(sql));
  const { rows } = await store.waiting();
  while ((await store.unpackNext()) !== undefined);
  return rows;
}

const isAnswered = ({ error }: CallResult) => error === undefined;

for (const [how, packing] of Object.entries({
  "in rows": {},
  "in packs that others lay out": { LATCHKEY_LOG_PACK_ABOVE: "0" },
})) {
  test(`strict, ${how}: through a dozen kill -9 under load, every call that was answered is counted and logged, once`, {
    timeout,
  }, async (t) => {
    const fleet = await startFleet(servers, { LATCHKEY_USAGE_DURABILITY: "strict", ...packing });
    t.after(() => fleet.close());
    const { keys, results } = await killUnderLoad(fleet);
    t.diagnostic(`${await layOut(fleet)} rows were laid out at the end`);
    const answered = results.filter(isAnswered);
    const rows = await rowsOf(fleet, keys);
    const counted = await assertCountsAgree(fleet, keys);
    assert.equal(counted, rows.length);
    assertEachOnce(rows, results);
    const logged = new Set(rows.map(({ requestId }) => requestId));
    const lost = answered.filter(({ requestId }) => !logged.has(requestId));
    t.diagnostic(`${kills} kills: ${answered.length} answered, ${counted} counted, ${lost.length} lost`);
    t.diagnostic(`${results.length - answered.length} calls failed as their server was killed`);
    assert.equal(lost.length, 0);
    assert.ok(counted >= answered.length && counted <= results.length);
  });
}

test("batched: a kill -9 loses at most the calls of the last interval, and none that ended before one that was kept", {
  timeout,
}, async (t) => {
  const fleet = await startFleet(servers);
  t.after(() => fleet.close());
  const bystander = watchCommits(fleet);
  const { keys, results, killed } = await killUnderLoad(fleet);
  const longestCommitMs = await bystander.stop();
  const rows = await rowsOf(fleet, keys);
  const counted = await assertCountsAgree(fleet, keys);
  assert.equal(counted, rows.length);
  assertEachOnce(rows, results);

  const committedAt = new Map(rows.map((row) => [row.requestId, row.committedAt]));
  const answered = results.filter(isAnswered);
  const lost = answered.filter(({ requestId }) => !committedAt.has(requestId));
  const ageMs = lost.map(({ url, endedAt }) => (killed.get(url) ?? Number.POSITIVE_INFINITY) - endedAt);
  const uncommittedMs = answered.flatMap(({ requestId, endedAt }) => {
    const at = committedAt.get(requestId);
    return at === undefined ? [] : [Math.max(0, at - epochMs(endedAt))];
  });
  t.diagnostic(`${kills} kills: ${answered.length} answered, ${counted} counted, ${lost.length} lost`);
  t.diagnostic(`from the answer of a call to its commit: ${figures(uncommittedMs)}`);
  t.diagnostic(`from the answer of a lost call to the kill: ${figures(ageMs)}`);
  t.diagnostic(`longest commit of a bystander: ${longestCommitMs.toFixed(1)} ms`);

  // Calls are committed in the order of their ends: what was answered before a call began that was kept, was kept.
  for (const url of killed.keys()) {
    const here = answered.filter((result) => result.url === url);
    const kept = here.filter(({ requestId }) => committedAt.has(requestId));
    const lastBegan = Math.max(...kept.map(({ startedAt }) => startedAt));
    const skipped = here.filter(
      ({ requestId, endedAt }) => endedAt < lastBegan && !committedAt.has(requestId),
    );
    assert.equal(skipped.length, 0, "a call was lost though a later one was kept");
  }
  // A commit follows an answer within the interval, and takes its time. How long that can be on this
  // machine, a bystander tells that commits all the while; the margin is generous beyond that.
  const limitMs = intervalMs + 500 + 2 * longestCommitMs;
  for (const age of ageMs) assert.ok(age <= limitMs, `lost ${age} ms after its answer, of ${limitMs}`);
});

/** Commits again and again beside the servers, and tells how long the longest took. */
function watchCommits({ sql }: Fleet): { stop(): Promise<number> } {
  let running = true;
  const run = async () => {
    let longestMs = 0;
    await sql`CREATE TABLE bystander (n int)`;
    while (running) {
      const startedAt = performance.now();
      await sql`INSERT INTO bystander VALUES (1)`;
      longestMs = Math.max(longestMs, performance.now() - startedAt);
      await sleep(10);
    }
    return longestMs;
  };
  const longest = run();
  longest.catch(() => {});
  return {
    stop() {
      running = false;
      return longest;
    },
  };
}

/** The fence when the news does not arrive, or an answer comes after the news. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Code } from "@connectrpc/connect";
import type { ServerProcess } from "../harness/server.ts";
import { lookupsSeen, watchStatements } from "../harness/statements-seen.ts";
import { until } from "../harness/until.ts";
import { figures } from "./figures.ts";
import { type Fleet, startFleet } from "./fleet.ts";
import { startLoad } from "./load.ts";
import { answersFromMemory } from "./memory.ts";
import { openPostgresLink, type PostgresLink } from "./postgres-link.ts";
import { callOnce, startProbe } from "./probe.ts";

/** The default of LATCHKEY_CACHE_MAX_STALENESS_MS. */
const maxStalenessMs = 2000;
const rounds = 2;
const keysOfRound = 8;
const fills = 40;
const timeout = 300_000;

let fleet: Fleet;
let link: PostgresLink;
/** The instance that is harmed; the other one is not. */
let victim: ServerProcess;
let other: ServerProcess;
let othersListener: number[];

before(async () => {
  fleet = await startFleet(1);
  other = fleet.servers[0]!;
  othersListener = await listeners();
  link = await openPostgresLink(fleet.databaseUrl);
  victim = await fleet.add({ DATABASE_URL: link.url });
});
after(async () => {
  await fleet?.close();
  link?.close();
});

/** The process ids of what listens in Postgres. */
async function listeners(): Promise<number[]> {
  const rows = await fleet.sql`
    SELECT pid FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = 'latchkey listen'`;
  return rows.map(({ pid }) => pid as number);
}

interface Cut {
  /** Undoes what does not pass by itself; called once all keys were refused. */
  readonly heal: () => void;
  /** Puts away what is left, once the victim is well again. */
  readonly cleanUp: () => void;
}

const nothing = () => {};

/** Ways to cut the victim off from the news. */
const cuts: Record<string, () => Promise<Cut> | Cut> = {
  "the process in Postgres that tells it stops": async () => {
    const pids = (await listeners()).filter((pid) => !othersListener.includes(pid));
    assert.equal(pids.length, 1);
    for (const pid of pids) process.kill(pid, "SIGSTOP");
    return {
      heal: nothing,
      cleanUp() {
        for (const pid of pids) process.kill(pid, "SIGCONT");
      },
    };
  },
  "its connection stalls": () => {
    assert.equal(link.stall("listen"), 1);
    return { heal: nothing, cleanUp: nothing };
  },
  "its connection stalls, and each that replaces it": () => {
    assert.equal(link.stall("listen", "later too"), 1);
    return { heal: link.heal, cleanUp: link.heal };
  },
  "it is itself stopped for a while": () => {
    victim.child.kill("SIGSTOP");
    const timer = setTimeout(() => victim.child.kill("SIGCONT"), 1.5 * maxStalenessMs);
    return {
      heal: nothing,
      cleanUp() {
        clearTimeout(timer);
        victim.child.kill("SIGCONT");
      },
    };
  },
};

for (const [what, cut] of Object.entries(cuts)) {
  test(`cut off from the news because ${what}, an instance accepts no key later than maxStalenessMs, and is well again by itself`, {
    timeout,
  }, async (t) => {
    const good = await fleet.newKey();
    const load = startLoad({
      urls: fleet.servers.map(({ url }) => url),
      tokens: [good.token],
      userId: good.userId,
      clients: 4,
      pauseMs: 5,
    });
    const refusedAfterMs: number[] = [];
    const acceptedUpToMs: number[] = [];
    const elsewhereMs: number[] = [];
    const wellAfterMs: number[] = [];
    for (let round = 0; round < rounds; round++) {
      const keys = await Promise.all(Array.from({ length: keysOfRound }, () => fleet.newKey()));
      await watchStatements(fleet.sql);
      const probes = keys.map((key) => ({
        key,
        here: startProbe(victim, key),
        there: startProbe(other, key),
      }));
      for (const { here, there } of probes) await Promise.all([here.accepted, there.accepted]);
      assert.ok((await lookupsSeen(fleet.sql)) >= keysOfRound, "look-ups are counted");
      const cutAt = performance.now();
      const { heal, cleanUp } = await cut();
      try {
        await Promise.all(
          probes.map(async ({ key, here, there }, n) => {
            // Over all of the time for which nothing tells the victim that it is deaf, and beyond.
            await sleep((n * 1.25 * maxStalenessMs) / keysOfRound);
            await fleet.as(other).keys.revokeApiKey({ id: key.apiKeyId });
            const [row] = await fleet.sql`
              SELECT extract(epoch FROM pg_xact_commit_timestamp(xmin))::float8 * 1000 AS ms
              FROM api_keys WHERE id = ${key.apiKeyId}`;
            const commitAt = row?.ms as number;
            const [refused, elsewhere] = await Promise.all([here.refused, there.refused]);
            assert.equal(refused.code, Code.Unauthenticated);
            assert.equal(refused.acceptedAgain, 0, "accepted after it had been refused");
            const lastMs = refused.lastAcceptedBegan - commitAt;
            assert.ok(lastMs <= maxStalenessMs, `accepted ${lastMs} ms after the commit`);
            acceptedUpToMs.push(lastMs);
            refusedAfterMs.push(refused.firstAt - commitAt);
            elsewhereMs.push(elsewhere.firstAt - commitAt);
          }),
        );
        heal();
        await answersFromMemory(fleet, victim, good);
        wellAfterMs.push(performance.now() - cutAt);
        for (const { token, userId } of keys) {
          assert.equal((await callOnce(victim, token, userId))?.code, Code.Unauthenticated);
        }
      } finally {
        cleanUp();
      }
    }
    await load.stop();
    t.diagnostic(`the last call that it accepted began after the commit: ${figures(acceptedUpToMs)}`);
    t.diagnostic(`until it refused: ${figures(refusedAfterMs)}; the other instance: ${figures(elsewhereMs)}`);
    t.diagnostic(`from the cut until verdicts came from memory again: ${figures(wellAfterMs)}`);
    assert.deepEqual([...load.failed], [], "a good key was accepted throughout");
  });
}

test("a look-up whose answer comes after the revocation neither answers with the old verdict nor keeps it", async (t) => {
  const marker = await fleet.newKey();
  let told = 0;
  for (let n = 0; n < fills; n++) {
    const key = await fleet.newKey();
    const hold = link.holdAnswersAbout(key.token);
    const late = callOnce(victim, key.token, key.userId);
    await until(() => hold.holds, Boolean);
    await fleet.as(other).keys.revokeApiKey({ id: key.apiKeyId });
    // Sometimes the answer is let go once the victim has heard, sometimes it is ahead of the news.
    if (n % 2 === 0) {
      await heardBy(victim);
      told++;
    }
    hold.release();
    const error = await late;
    if (n % 2 === 0) assert.equal(error?.code, Code.Unauthenticated, "answered with what was read before");
    await until(
      () => callOnce(victim, key.token, key.userId),
      (found) => found?.code === Code.Unauthenticated,
    );
    for (let again = 0; again < 5; again++) {
      assert.equal((await callOnce(victim, key.token, key.userId))?.code, Code.Unauthenticated);
    }
  }
  assert.equal(await callOnce(victim, marker.token, marker.userId), undefined);
  t.diagnostic(`${fills} answers held back past a revocation, ${told} of them until it had been heard`);
});

/** Resolves when the instance has heard all that was committed before: it hears in the order of the commits. */
async function heardBy(server: ServerProcess): Promise<void> {
  const key = await fleet.newKey();
  assert.equal(await callOnce(server, key.token, key.userId), undefined);
  await fleet.as(other).keys.revokeApiKey({ id: key.apiKeyId });
  await until(
    () => callOnce(server, key.token, key.userId),
    (error) => error?.code === Code.Unauthenticated,
  );
}

test("a look-up whose answer is held back longer than maxStalenessMs is answered unavailable, and brings nothing back", async () => {
  const key = await fleet.newKey();
  const hold = link.holdAnswersAbout(key.token);
  const late = callOnce(victim, key.token, key.userId);
  await until(() => hold.holds, Boolean);
  await fleet.as(other).keys.revokeApiKey({ id: key.apiKeyId });
  assert.equal((await late)?.code, Code.Unavailable);
  hold.release();
  await heardBy(victim);
  for (let again = 0; again < 20; again++) {
    assert.equal((await callOnce(victim, key.token, key.userId))?.code, Code.Unauthenticated);
  }
});

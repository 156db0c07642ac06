/** The fence on many instances under load: a key that a change ended is refused by all of them, within the bound. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Code } from "@connectrpc/connect";
import { epochMs, figures } from "./figures.ts";
import { type Fleet, type FleetKey, startFleet } from "./fleet.ts";
import { startLoad } from "./load.ts";
import { callOnce, startProbe } from "./probe.ts";

/** The default of LATCHKEY_CACHE_MAX_STALENESS_MS. */
const maxStalenessMs = 2000;
const instances = 4;
const changesOfEach = 50;

let fleet: Fleet;
before(async () => {
  fleet = await startFleet(instances);
});
after(() => fleet?.close());

interface Change {
  /** Makes the change through a server, or past all of them. */
  readonly make: (key: FleetKey, through: ReturnType<Fleet["as"]>) => PromiseLike<unknown>;
  readonly code: Code;
  readonly table: "api_keys" | "users";
}

const changes: Record<string, Change> = {
  "revoking a key": {
    make: ({ apiKeyId }, { keys }) => keys.revokeApiKey({ id: apiKeyId }),
    code: Code.Unauthenticated,
    table: "api_keys",
  },
  "disabling its user": {
    make: ({ userId }, { admin }) =>
      admin.updateUser({ user: { id: userId, isActive: false }, updateMask: { paths: ["is_active"] } }),
    code: Code.Unauthenticated,
    table: "users",
  },
  "narrowing its methods": {
    make: ({ apiKeyId }, { keys }) =>
      keys.updateApiKey({
        apiKey: { id: apiKeyId, allowedMethods: ["latchkey.v1.*"] },
        updateMask: { paths: ["allowed_methods"] },
      }),
    code: Code.PermissionDenied,
    table: "api_keys",
  },
  "moving its expiry into the past": {
    make: ({ apiKeyId }) => fleet.sql`UPDATE api_keys SET expires_at = now() WHERE id = ${apiKeyId}`,
    code: Code.Unauthenticated,
    table: "api_keys",
  },
};

/** When the row was committed as it is. */
async function committedAt(table: Change["table"], id: string): Promise<number> {
  const [row] = await fleet.sql`
    SELECT extract(epoch FROM pg_xact_commit_timestamp(xmin))::float8 * 1000 AS ms
    FROM ${fleet.sql(table)} WHERE id = ${id}`;
  return row?.ms as number;
}

interface Measured {
  readonly fromAnswerMs: number;
  readonly fromCommitMs: number;
}

/** Makes one change while every server is asked for the key without pause; measures each. */
async function measure(change: Change, n: number): Promise<Measured[]> {
  const key = await fleet.newKey();
  const probes = fleet.servers.map((server) => startProbe(server, key));
  await Promise.all(probes.map(({ accepted }) => accepted));
  await change.make(key, fleet.as(fleet.servers[n % instances]));
  const answeredAt = epochMs(performance.now());
  const commitAt = await committedAt(
    change.table,
    change.table === "users" ? String(key.userId) : key.apiKeyId,
  );
  assert.ok(commitAt <= answeredAt, "it was answered before it was committed");
  const refusals = await Promise.all(probes.map(({ refused }) => refused));
  for (const refused of refusals) {
    assert.equal(refused.code, change.code);
    assert.equal(refused.acceptedAgain, 0, "accepted after it had been refused");
    assert.ok(
      refused.lastAcceptedBegan <= commitAt + maxStalenessMs,
      `accepted ${refused.lastAcceptedBegan - commitAt} ms after the commit`,
    );
  }
  for (const server of fleet.servers) ended.push({ server, key, code: change.code });
  return refusals.map(({ firstAt }) => ({
    fromAnswerMs: Math.max(0, firstAt - answeredAt),
    fromCommitMs: firstAt - commitAt,
  }));
}

/** What was refused, to be asked for again at the end. */
const ended: { server: Fleet["servers"][number]; key: FleetKey; code: Code }[] = [];

test("no instance accepts a key later than maxStalenessMs after a change that ended it", {
  timeout: 300_000,
}, async (t) => {
  const good = await Promise.all(Array.from({ length: 20 }, () => fleet.newKey()));
  const callsMs: number[] = [];
  const load = startLoad({
    urls: fleet.servers.map(({ url }) => url),
    tokens: good.map(({ token }) => token),
    userId: 1n,
    clients: 4,
    pauseMs: 5,
    onResult: ({ startedAt, endedAt }) => callsMs.push(endedAt - startedAt),
  });
  const startedAt = performance.now();
  const all: Measured[] = [];
  for (const [name, change] of Object.entries(changes)) {
    const measured: Measured[] = [];
    for (let n = 0; n < changesOfEach; n++) measured.push(...(await measure(change, n)));
    t.diagnostic(`${name}, until refused: from its commit ${figures(measured.map((m) => m.fromCommitMs))}`);
    all.push(...measured);
  }
  const seconds = (performance.now() - startedAt) / 1000;
  await load.stop();
  t.diagnostic(`all, from the answer of the change: ${figures(all.map((m) => m.fromAnswerMs))}`);
  t.diagnostic(`all, from its commit: ${figures(all.map((m) => m.fromCommitMs))}`);
  const rate = Math.round(callsMs.length / seconds);
  t.diagnostic(`a call of the load beside it, ${rate} a second: ${figures(callsMs)}`);
  assert.equal(all.length, changesOfEach * 4 * instances);
  assert.deepEqual([...load.failed], [], "the keys that nobody changed were accepted throughout");
});

test("a key that was refused stays refused by every instance", async (t) => {
  const queue = ended.values();
  const work = async () => {
    for (const { server, key, code } of queue) {
      assert.equal((await callOnce(server, key.token, key.userId))?.code, code);
    }
  };
  await Promise.all(Array.from({ length: 8 }, work));
  t.diagnostic(`${ended.length} keys and instances asked again`);
});

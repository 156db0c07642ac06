/** Open streams on many instances under load: they end with the key that opened them. */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { RequestLogService } from "../../src/gen/latchkey/v1/request_log_service_pb.js";
import { noteSecret } from "../harness/secrets.ts";
import type { ServerProcess } from "../harness/server.ts";
import { epochMs, figures } from "./figures.ts";
import { type Fleet, type FleetKey, startFleet } from "./fleet.ts";
import { type Load, startLoad } from "./load.ts";
import { answersFromMemory } from "./memory.ts";
import { openPostgresLink, type PostgresLink } from "./postgres-link.ts";

/** The default of LATCHKEY_CACHE_MAX_STALENESS_MS. */
const maxStalenessMs = 2000;
const keysOfEach = 8;
const streamsOfKey = 2;
const cutRounds = 4;
const timeout = 300_000;

let fleet: Fleet;
let link: PostgresLink;
let victim: ServerProcess;
let load: Load;
let good: FleetKey;
before(async () => {
  fleet = await startFleet(3);
  link = await openPostgresLink(fleet.databaseUrl);
  victim = await fleet.add({ DATABASE_URL: link.url });
  good = await fleet.newKey();
  const urls = fleet.servers.map(({ url }) => url);
  load = startLoad({ urls, tokens: [good.token], userId: good.userId, clients: 4, pauseMs: 5 });
});
after(async () => {
  await load?.stop();
  await fleet?.close();
  link?.close();
});

/** A staff user of its own and a key for it. */
async function newStaffKey(): Promise<FleetKey> {
  const staff = fleet.as(fleet.servers[0]);
  const username = `staff-${randomUUID().slice(0, 13)}`;
  const { user } = await staff.admin.createUser({
    username,
    email: `${username}@example.com`,
    isStaff: true,
  });
  assert.ok(user);
  const { apiKey, token } = await staff.keys.createApiKey({ userId: user.id, name: "tails" });
  return { userId: user.id, apiKeyId: apiKey?.id ?? "", token: noteSecret(token) };
}

interface Stream {
  /** Resolves when the stream has ended, with the time as `epochMs` has it. */
  readonly ended: Promise<{ at: number; error: ConnectError | undefined }>;
}

/** Tails the request log; resolves when the stream is open. */
async function tail(server: ServerProcess, token: string): Promise<Stream> {
  const client = createClient(RequestLogService, createGrpcTransport({ baseUrl: server.url }));
  const stream = client.tailRequestLogs({}, { headers: { "x-api-key": token } })[Symbol.asyncIterator]();
  await stream.next();
  const drain = async () => {
    try {
      while (!(await stream.next()).done);
      return { at: epochMs(performance.now()), error: undefined };
    } catch (error) {
      return { at: epochMs(performance.now()), error: ConnectError.from(error) };
    }
  };
  return { ended: drain() };
}

/** Within the stated bound, and as long again for the look at the database and the way to the client. */
function assertInTime(untilEndedMs: readonly number[]): void {
  for (const ms of untilEndedMs) assert.ok(ms <= 2 * maxStalenessMs, `a stream went on for ${ms} ms`);
}

async function committedAt(table: "api_keys" | "users", id: string): Promise<number> {
  const [row] = await fleet.sql`
    SELECT extract(epoch FROM pg_xact_commit_timestamp(xmin))::float8 * 1000 AS ms
    FROM ${fleet.sql(table)} WHERE id = ${id}`;
  return row?.ms as number;
}

const endings: Record<string, (key: FleetKey, through: ServerProcess) => Promise<number>> = {
  async "is revoked"({ apiKeyId }, through) {
    await fleet.as(through).keys.revokeApiKey({ id: apiKeyId });
    return committedAt("api_keys", apiKeyId);
  },
  async "is a disabled user's"({ userId }, through) {
    const user = { id: userId, isActive: false };
    await fleet.as(through).admin.updateUser({ user, updateMask: { paths: ["is_active"] } });
    return committedAt("users", String(userId));
  },
};

for (const [what, end] of Object.entries(endings)) {
  test(`every open stream of a key ends with unauthenticated, on every instance, when the key ${what}`, {
    timeout,
  }, async (t) => {
    const untilEndedMs: number[] = [];
    for (let n = 0; n < keysOfEach; n++) {
      const key = await newStaffKey();
      const places = Array.from({ length: streamsOfKey }, () => fleet.servers).flat();
      const streams = await Promise.all(places.map((server) => tail(server, key.token)));
      const commitAt = await end(key, fleet.servers[n % fleet.servers.length]!);
      for (const { at, error } of await Promise.all(streams.map(({ ended }) => ended))) {
        assert.equal(error?.code, Code.Unauthenticated);
        untilEndedMs.push(at - commitAt);
      }
    }
    t.diagnostic(`from the commit to the end of the stream: ${figures(untilEndedMs)}`);
    assertInTime(untilEndedMs);
  });
}

test("an instance that is cut off from the news ends the streams of a revoked key by itself", async (t) => {
  const untilEndedMs: number[] = [];
  for (let n = 0; n < cutRounds; n++) {
    const key = await newStaffKey();
    const other = await newStaffKey();
    const [stream, stays] = await Promise.all([tail(victim, key.token), tail(victim, other.token)]);
    await answersFromMemory(fleet, victim, good);
    assert.equal(link.stall("listen"), 1);
    // At any moment between two heartbeats.
    await sleep((n * maxStalenessMs) / 4 / cutRounds);
    const commitAt = await endings["is revoked"]!(key, fleet.servers[0]!);
    const { at, error } = await stream.ended;
    assert.equal(error?.code, Code.Unauthenticated);
    untilEndedMs.push(at - commitAt);
    assert.equal(await Promise.race([stays.ended, sleep(50)]), undefined, "another key's stream ended");
    await endings["is revoked"]!(other, fleet.servers[0]!);
    assert.equal((await stays.ended).error?.code, Code.Unauthenticated);
  }
  t.diagnostic(`from the commit to the end of the stream: ${figures(untilEndedMs)}`);
  assertInTime(untilEndedMs);
});

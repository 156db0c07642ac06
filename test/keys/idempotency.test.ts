/** Creating and rotating with a request_id: sent again, it makes nothing again. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { timestampDate } from "@bufbuild/protobuf/wkt";
import { Code } from "@connectrpc/connect";
import { connect, database } from "../../src/db/client.ts";
import { sweepRows } from "../../src/db/sweep.ts";
import { ApiKeyType } from "../../src/gen/latchkey/v1/api_key_service_pb.js";
import { noteSecret } from "../harness/secrets.ts";
import { startServer, type TestServer } from "../harness/server.ts";
import { until } from "../harness/until.ts";
import { anHourMs, createKeyWorld, inMs, type KeyWorld, keyMethods, made } from "./world.ts";

let world: KeyWorld;
let other: TestServer;
before(async () => {
  world = await createKeyWorld();
  other = await startServer({ databaseUrl: world.latchkey.databaseUrl });
});
after(async () => {
  await other.close();
  await world.close();
});

async function keysOf(userId: bigint): Promise<string[]> {
  return (await world.staff.keys.listApiKeys({ userId })).apiKeys.map(({ id }) => id);
}

/** Makes the requests with this id older than they are. */
async function age(requestId: string, hours: number): Promise<void> {
  const aged = await world.sql`
    UPDATE idempotent_requests SET created_at = created_at - make_interval(hours => ${hours})
    WHERE request_id = ${requestId} RETURNING 1`;
  assert.equal(aged.length, 1);
}

test("a creation that is sent again returns the same key, without the token, and says why", async () => {
  const userId = await world.newUser();
  const request = {
    userId,
    name: "once",
    allowedMethods: ["a.*"],
    expiresAt: inMs(anHourMs),
    requestId: "r-1",
  };
  const first = await world.staff.keys.createApiKey(request);
  noteSecret(first.token);
  assert.equal(first.tokenWithheldReason, "");
  const changed = await world.staff.keys.updateApiKey({
    apiKey: { id: first.apiKey?.id ?? "", name: "renamed" },
    updateMask: { paths: ["name"] },
  });
  for (const server of [world.latchkey, other]) {
    const again = await server.asStaff.keys.createApiKey(request);
    assert.equal(again.token, "");
    // As it is now.
    assert.deepEqual(again.apiKey, changed.apiKey);
    assert.ok(first.apiKey?.createdAt);
    const at = timestampDate(first.apiKey.createdAt).toISOString();
    assert.ok(again.tokenWithheldReason.startsWith(`a request with this request_id made the key at ${at};`));
    assert.match(again.tokenWithheldReason, /not stored: if it was lost, rotate the key/);
  }
  assert.equal((await keysOf(userId)).length, 1);
});

test("a rotation that is sent again returns the same two keys, without the token", async () => {
  const old = await world.newKey();
  const request = { id: old.id, grace: { seconds: 3600n, nanos: 0 }, requestId: "rotation" };
  const first = await old.client.keys.rotateApiKey(request);
  noteSecret(first.token);
  // By either key: the request is the user's.
  for (const { client } of [old, made(world.latchkey, first)]) {
    const again = await client.keys.rotateApiKey(request);
    assert.equal(again.token, "");
    assert.match(again.tokenWithheldReason, /^a request with this request_id made the key at /);
    assert.equal(again.apiKey?.id, first.apiKey?.id);
    assert.equal(again.rotatedFrom?.id, old.id);
    assert.deepEqual(again.rotatedFrom.expiresAt, first.rotatedFrom?.expiresAt);
  }
  assert.equal((await keysOf(old.key.userId)).length, 2);
});

test("a request_id that was used for another request is refused", async () => {
  const userId = await world.newUser();
  const request = { userId, name: "a key", requestId: "taken" };
  const { apiKey, token } = await world.staff.keys.createApiKey(request);
  noteSecret(token);
  const refused = {
    code: Code.InvalidArgument,
    rawMessage: /^request_id was used for another request at \S+Z: choose a new one$/,
  };
  for (const change of [
    { name: "another" },
    { description: "d" },
    { type: ApiKeyType.CLI },
    { expiresAt: inMs(anHourMs) },
    { allowedMethods: ["a.*"] },
    { canVerify: true },
  ]) {
    await assert.rejects(world.staff.keys.createApiKey({ ...request, ...change }), refused);
  }
  await assert.rejects(world.staff.keys.rotateApiKey({ id: apiKey?.id ?? "", requestId: "taken" }), refused);
  assert.equal((await keysOf(userId)).length, 1);
});

test("after a day a request_id counts as new", async () => {
  const userId = await world.newUser();
  const request = { userId, name: "daily", requestId: "daily" };
  const ids: (string | undefined)[] = [];
  for (const hours of [23, 25, 0]) {
    const { apiKey, token } = await world.staff.keys.createApiKey(request);
    if (token !== "") noteSecret(token);
    ids.push(apiKey?.id);
    await age("daily", hours);
  }
  // The 23 hours were not enough; with the 25 hours more they were.
  assert.equal(ids[0], ids[1]);
  assert.notEqual(ids[1], ids[2]);
  const again = await world.staff.keys.createApiKey(request);
  assert.deepEqual([again.apiKey?.id, again.token], [ids[2], ""]);
  // What was asked for may differ then.
  await age("daily", 25);
  noteSecret((await world.staff.keys.createApiKey({ ...request, name: "other" })).token);
  assert.equal((await keysOf(userId)).length, 3);
});

test("of the same requests at once, to several instances, one makes the key and shows the token", async () => {
  const userId = await world.newUser();
  for (let n = 0; n < 5; n++) {
    const request = { userId, name: "a key", requestId: `race-${n}` };
    const answers = await Promise.all(
      [world.latchkey, other, world.latchkey, other, world.latchkey, other].map((server) =>
        server.asStaff.keys.createApiKey(request),
      ),
    );
    const tokens = answers.map(({ token }) => token).filter((token) => token !== "");
    assert.equal(tokens.length, 1);
    noteSecret(tokens[0] ?? "");
    assert.equal(new Set(answers.map(({ apiKey }) => apiKey?.id)).size, 1);
    assert.equal((await keysOf(userId)).length, n + 1);
  }
});

test("of the same rotations at once, one makes the key and shows the token", async () => {
  const { id } = await world.newKey();
  const answers = await Promise.all(
    [world.latchkey, other, world.latchkey, other].map((server) =>
      server.asStaff.keys.rotateApiKey({ id, requestId: "rotation-race" }),
    ),
  );
  const tokens = answers.map(({ token }) => token).filter((token) => token !== "");
  assert.equal(tokens.length, 1);
  noteSecret(tokens[0] ?? "");
  assert.equal(new Set(answers.map(({ apiKey }) => apiKey?.id)).size, 1);
});

test("a request_id is its user's own", async () => {
  const [mine, others] = [await world.newKey(), await world.newKey()];
  for (const { key, client } of [mine, others]) {
    const { token } = await client.keys.createApiKey({
      userId: key.userId,
      name: "a key",
      requestId: "shared",
    });
    assert.notEqual(noteSecret(token), "");
  }
});

test("what a caller may not do any more is not answered from before", async () => {
  const staffId = await world.newUser({ isStaff: true });
  const staff = await world.newKey({ userId: staffId });
  const userId = await world.newUser();
  const request = { userId, name: "a key", requestId: "rights" };
  const { apiKey, token } = await staff.client.keys.createApiKey(request);
  noteSecret(token);
  const rotation = { id: apiKey?.id ?? "", requestId: "rotation-rights" };
  noteSecret((await staff.client.keys.rotateApiKey(rotation)).token);

  const narrow = await world.newKey({ userId: staffId, allowedMethods: [keyMethods] });
  const refused = { code: Code.PermissionDenied, rawMessage: /^allowed_methods/ };
  await assert.rejects(narrow.client.keys.createApiKey(request), refused);
  await assert.rejects(narrow.client.keys.rotateApiKey(rotation), refused);
  assert.equal((await staff.client.keys.createApiKey(request)).apiKey?.id, apiKey?.id);

  await world.sql`UPDATE users SET is_staff = false WHERE id = ${String(staffId)}`;
  await until(
    () => staff.client.keys.createApiKey(request).catch((error: { code: Code }) => error.code),
    (found) => found === Code.PermissionDenied,
  );
  await assert.rejects(staff.client.keys.rotateApiKey(rotation), { code: Code.NotFound });
});

test("a request that is sent again is answered though what it asked for has passed", async () => {
  const userId = await world.newUser();
  const expiresAt = inMs(500);
  const request = { userId, name: "brief", expiresAt, requestId: "brief" };
  const { apiKey, token } = await world.staff.keys.createApiKey(request);
  noteSecret(token);
  await until(
    () => Date.now(),
    (now) => now > timestampDate(expiresAt).getTime(),
  );
  assert.equal((await world.staff.keys.createApiKey(request)).apiKey?.id, apiKey?.id);
  await assert.rejects(world.staff.keys.createApiKey({ ...request, requestId: "too-late" }), {
    code: Code.InvalidArgument,
    rawMessage: /^expires_at must be in the future/,
  });
});

test("a request that failed may be sent again", async () => {
  const userId = await world.newUser();
  const request = { userId, name: "a key", requestId: "at-first-in-vain" };
  await world.sql`UPDATE users SET is_active = false WHERE id = ${String(userId)}`;
  await assert.rejects(world.staff.keys.createApiKey(request), { code: Code.FailedPrecondition });
  await world.sql`UPDATE users SET is_active = true WHERE id = ${String(userId)}`;
  assert.notEqual(noteSecret((await world.staff.keys.createApiKey(request)).token), "");
});

for (const requestId of [" ", "a b", "ä", "a\n", "\0", "x".repeat(129)]) {
  test(`a request_id of another form is refused: ${JSON.stringify(requestId.slice(0, 5))}`, async () => {
    const { id, key } = await world.newKey();
    const refused = { code: Code.InvalidArgument, rawMessage: /^request_id must be at most 128 visible/ };
    const request = { userId: key.userId, name: "a key", requestId };
    await assert.rejects(world.staff.keys.createApiKey(request), refused);
    await assert.rejects(world.staff.keys.rotateApiKey({ id, requestId }), refused);
  });
}

test("requests of more than a day ago are swept out, and no others, while some are held", async () => {
  const userId = await world.newUser();
  for (const requestId of ["sweep-old", "sweep-held", "sweep-young"]) {
    const { token } = await world.staff.keys.createApiKey({ userId, name: "a key", requestId });
    noteSecret(token);
    await age(requestId, requestId === "sweep-young" ? 23 : 24);
  }
  const client = connect(
    { url: world.latchkey.databaseUrl },
    { max: 1, purpose: "sweep", statementTimeoutMs: 5000 },
  );
  const sweep = () => {
    const now = new Date();
    return sweepRows(database(client), { statsRetentionDays: 400 }, { now, earliest: now });
  };
  const left = async () => {
    const rows = await world.sql`SELECT request_id FROM idempotent_requests WHERE request_id LIKE 'sweep-%'`;
    return rows.map((row) => row.request_id as string).sort();
  };
  try {
    await world.sql.begin(async (tx) => {
      await tx`SELECT FROM idempotent_requests WHERE request_id = 'sweep-held' FOR UPDATE`;
      await sweep();
    });
    assert.deepEqual(await left(), ["sweep-held", "sweep-young"]);
    await sweep();
    assert.deepEqual(await left(), ["sweep-young"]);
  } finally {
    await client.end();
  }
});

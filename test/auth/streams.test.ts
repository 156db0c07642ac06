/** Streams end with the credential that opened them. */
import assert from "node:assert/strict";
import { setMaxListeners } from "node:events";
import { after, before, test } from "node:test";
import { Code, ConnectError, createClient, type Transport } from "@connectrpc/connect";
import {
  createConnectTransport,
  createGrpcTransport,
  createGrpcWebTransport,
} from "@connectrpc/connect-node";
import { ServerReflection } from "../../src/gen/grpc/reflection/v1/reflection_pb.js";
import { createUserAndKey, sendToken, startServer, type TestServer } from "../harness/server.ts";
import { until } from "../harness/until.ts";

let latchkey: TestServer;
before(async () => {
  latchkey = await startServer({ cacheMaxStalenessMs: 400, logInfrastructure: true });
});
after(() => latchkey?.close());

/** Opens a stream that ends only when its client or its server says so: reflection, with one query. */
async function openStream(transport: Transport, signal: AbortSignal) {
  const closed = new Promise((resolve) => signal.addEventListener("abort", resolve, { once: true }));
  async function* queries() {
    yield { messageRequest: { case: "listServices" as const, value: "" } };
    await closed;
  }
  const answers = createClient(ServerReflection, transport)
    .serverReflectionInfo(queries(), { signal })
    [Symbol.asyncIterator]();
  assert.equal((await answers.next()).value?.messageResponse.case, "listServicesResponse");
  return answers;
}

const transports: Record<string, (token: string) => Transport> = {
  connect: (token) =>
    createConnectTransport({ baseUrl: latchkey.url, httpVersion: "2", interceptors: [sendToken(token)] }),
  grpc: (token) => createGrpcTransport({ baseUrl: latchkey.url, interceptors: [sendToken(token)] }),
  "grpc-web": (token) =>
    createGrpcWebTransport({ baseUrl: latchkey.url, httpVersion: "2", interceptors: [sendToken(token)] }),
};

const endings: Record<string, (apiKeyId: string) => PromiseLike<unknown>> = {
  "is revoked": (id) => latchkey.asStaff.keys.revokeApiKey({ id }),
  expires: (id) => latchkey.sql`UPDATE api_keys SET expires_at = now() WHERE id = ${id}`,
  "is a disabled user's": (id) =>
    latchkey.sql`UPDATE users SET is_active = false WHERE id = (SELECT user_id FROM api_keys WHERE id = ${id})`,
  "is a deleted user's": (id) =>
    latchkey.sql`DELETE FROM users WHERE id = (SELECT user_id FROM api_keys WHERE id = ${id})`,
};

let n = 0;
for (const [protocol, transport] of Object.entries(transports)) {
  for (const [ending, end] of Object.entries(endings)) {
    test(`${protocol}: the open stream of a key ends with unauthenticated when the key ${ending}`, async () => {
      const { apiKeyId, token } = await createUserAndKey(latchkey.asStaff, `stream-${n++}`);
      const stop = new AbortController();
      const stream = await openStream(transport(token), stop.signal);
      await end(apiKeyId);
      const error = await stream.next().then(
        () => assert.fail("the stream went on"),
        (reason: unknown) => ConnectError.from(reason),
      );
      assert.equal(error.code, Code.Unauthenticated);
      const [row] = await until(
        async () => await latchkey.sql`SELECT code FROM request_logs WHERE api_key_id = ${apiKeyId}`,
        (rows) => rows.length > 0,
      );
      assert.equal(row?.code, Code.Unauthenticated);
      stop.abort();
    });
  }
}

for (const [change, narrow, message] of [
  [
    "allowed addresses leave out where it came from",
    (id: string) => latchkey.sql`UPDATE api_keys SET allowed_addresses = '{10.0.0.0/8}' WHERE id = ${id}`,
    "this API key may not be used from this address",
  ],
  [
    "allowed methods leave out what it calls",
    (id: string) => latchkey.sql`UPDATE api_keys SET allowed_methods = '{api.users.*}' WHERE id = ${id}`,
    "this API key may not call this method",
  ],
] as const) {
  for (const [protocol, transport] of Object.entries(transports)) {
    test(`${protocol}: the open stream of a key ends with permission_denied when its ${change}`, async () => {
      const { apiKeyId, token } = await createUserAndKey(latchkey.asStaff, `narrowed-${n++}`);
      await latchkey.sql`
        UPDATE api_keys SET allowed_addresses = '{127.0.0.0/8}', allowed_methods = '{grpc.*}' WHERE id = ${apiKeyId}`;
      const stop = new AbortController();
      const stream = await openStream(transport(token), stop.signal);
      await narrow(apiKeyId);
      const error = await stream.next().then(
        () => assert.fail("the stream went on"),
        (reason: unknown) => ConnectError.from(reason),
      );
      assert.deepEqual([error.code, error.rawMessage], [Code.PermissionDenied, message]);
      stop.abort();
    });
  }
}

test("a stream goes on while other keys and users change", async () => {
  const { token } = await createUserAndKey(latchkey.asStaff, "stays");
  const other = await createUserAndKey(latchkey.asStaff, "goes");
  const stop = new AbortController();
  const stream = await openStream(transports.grpc!(token), stop.signal);
  await latchkey.asStaff.keys.revokeApiKey({ id: other.apiKeyId });
  await until(
    async () =>
      latchkey
        .as(other.token)
        .users.getUser({ userId: 1n })
        .then(() => "served", String),
    (outcome) => outcome.includes("revoked"),
  );
  const next = stream.next();
  stop.abort();
  const error = await next.then(() => assert.fail("the stream ended by itself"), ConnectError.from);
  assert.equal(error.code, Code.Canceled);
});

test("hundreds of streams of one key outlive the loss of the LISTEN connection", async (t) => {
  // With the staleness that servers have: a machine that is busy may take a while to read a key.
  const server = await startServer({ logInfrastructure: true });
  t.after(() => server.close());
  const connected = (key: string) =>
    createGrpcTransport({ baseUrl: server.url, interceptors: [sendToken(key)] });
  const { token } = await createUserAndKey(server.asStaff, "many");
  const stop = new AbortController();
  setMaxListeners(0, stop.signal);
  const streams = await Promise.all(
    Array.from({ length: 3 }, () => connected(token)).flatMap((transport) =>
      Array.from({ length: 200 }, () => openStream(transport, stop.signal)),
    ),
  );
  let ended = 0;
  const ends = streams.map((stream) =>
    stream.next().catch(() => {
      ended++;
    }),
  );
  await server.sql`
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = 'latchkey listen'`;
  // What is revoked now is heard only by the connection that replaced it; by then all streams have been looked at.
  const other = await createUserAndKey(server.asStaff, "marker");
  const marker = await openStream(connected(other.token), stop.signal);
  const markerEnds = marker.next().catch(() => {});
  await until(
    async () =>
      (
        await server.sql`SELECT 1 FROM pg_stat_activity
          WHERE datname = current_database() AND application_name = 'latchkey listen'`
      ).length,
    (listeners) => listeners === 1,
  );
  await server.asStaff.keys.revokeApiKey({ id: other.apiKeyId });
  await markerEnds;
  assert.equal(ended, 0);
  stop.abort();
  await Promise.all(ends);
});

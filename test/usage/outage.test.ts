/** A server whose database goes away and comes back. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Code, ConnectError, createClient, type Interceptor, type Transport } from "@connectrpc/connect";
import {
  createConnectTransport,
  createGrpcTransport,
  createGrpcWebTransport,
} from "@connectrpc/connect-node";
import { ServerReflection } from "../../src/gen/grpc/reflection/v1/reflection_pb.js";
import { Health, HealthCheckResponse_ServingStatus as Status } from "../../src/gen/health/v1/health_pb.js";
import { breakDatabase, openSql } from "../harness/postgres.ts";
import { createUserAndKey, sendToken, startServer, type TestServer } from "../harness/server.ts";
import { until } from "../harness/until.ts";

const transports: Record<string, (baseUrl: string, interceptors: Interceptor[]) => Transport> = {
  connect: (baseUrl, interceptors) => createConnectTransport({ baseUrl, httpVersion: "2", interceptors }),
  grpc: (baseUrl, interceptors) => createGrpcTransport({ baseUrl, interceptors }),
  "grpc-web": (baseUrl, interceptors) => createGrpcWebTransport({ baseUrl, httpVersion: "2", interceptors }),
};

/** Neither asks the database for anything itself. */
async function callUnary(transport: Transport): Promise<unknown> {
  return createClient(Health, transport).check({});
}
async function callStream(transport: Transport): Promise<unknown> {
  async function* queries() {
    yield { messageRequest: { case: "listServices" as const, value: "" } };
  }
  const answers: unknown[] = [];
  for await (const answer of createClient(ServerReflection, transport).serverReflectionInfo(queries())) {
    answers.push(answer);
  }
  return answers;
}

async function counted(server: TestServer, apiKeyId: string) {
  const sql = openSql(server.databaseUrl);
  try {
    const [row] = await sql`SELECT request_count::int AS count,
      (SELECT count(*)::int FROM request_logs WHERE api_key_id = ${apiKeyId}) AS rows,
      (SELECT count(*)::int FROM request_logs WHERE api_key_id = ${apiKeyId} AND code = 14) AS unavailable
      FROM api_key_usage WHERE api_key_id = ${apiKeyId}`;
    return row as unknown as { count: number; rows: number; unavailable: number };
  } finally {
    await sql.end();
  }
}

for (const [protocol, createTransport] of Object.entries(transports)) {
  for (const [kind, run] of Object.entries({ unary: callUnary, stream: callStream })) {
    test(`strict, ${protocol}, ${kind}: a call that cannot be counted is answered unavailable, in the protocol's words`, async (t) => {
      const server = await startServer({ usageDurability: "strict", logInfrastructure: true });
      t.after(() => server.close());
      const { apiKeyId, token } = await createUserAndKey(server.asStaff, "strict");
      const transport = createTransport(server.url, [sendToken(token)]);
      await run(transport);
      const mend = await breakDatabase(server);
      // Its verdict is cached, so the handler runs; it is the commit that fails.
      const error = await run(transport).then(() => assert.fail("it was answered"), ConnectError.from);
      assert.equal(error.code, Code.Unavailable);
      assert.match(error.rawMessage, /could not be counted/);
      await assert.rejects(run(transport), (next) => ConnectError.from(next).code === Code.Unavailable);
      await mend();
      await until(
        () =>
          run(transport).then(
            () => true,
            () => false,
          ),
        Boolean,
      );
      const { count, rows, unavailable } = await counted(server, apiKeyId);
      assert.equal(count, rows);
      assert.ok(unavailable >= 1, "the row says what the caller was told");
    });
  }
}

test("batched: calls go on while the database is away, health says so, and all are counted when it is back", async (t) => {
  // Stale verdicts are allowed here for as long as the test takes.
  const server = await startServer({ logInfrastructure: true, cacheStaleIfErrorMs: 60_000 });
  t.after(() => server.close());
  const { apiKeyId, token } = await createUserAndKey(server.asStaff, "batched");
  const transport = transports.grpc!(server.url, [sendToken(token)]);
  const health = createClient(Health, transport);
  let calls = 0;
  const check = async () => {
    calls++;
    return (await health.check({})).status;
  };
  assert.equal(await check(), Status.SERVING);
  const mend = await breakDatabase(server);
  await until(check, (status) => status === Status.NOT_SERVING);
  for (let i = 0; i < 100; i++) await check();
  await mend();
  await until(check, (status) => status === Status.SERVING);
  const { count, rows } = await until(
    () => counted(server, apiKeyId),
    (found) => found.count >= calls,
  );
  assert.deepEqual({ count, rows }, { count: calls, rows: calls });
});

test("a known key answers for maxStalenessMs after the database went, then no key has a verdict, without a 401", async (t) => {
  const server = await startServer({ cacheMaxStalenessMs: 600 });
  t.after(() => server.close());
  const { token, userId } = await createUserAndKey(server.asStaff, "known");
  const unseen = await createUserAndKey(server.asStaff, "unseen");
  const codeOf = (key: string) =>
    server
      .as(key)
      .users.getUser({ userId })
      .then(
        () => 0,
        (error: unknown) => ConnectError.from(error).code,
      );
  assert.equal(await codeOf(token), 0);
  const mend = await breakDatabase(server);
  // Past the guard, the handler itself finds no database.
  await assert.rejects(server.as(token).users.getUser({ userId }), {
    code: Code.Unavailable,
    rawMessage: "the database does not answer: try again later",
  });
  assert.equal(await codeOf(unseen.token), Code.Unavailable);
  await until(
    () => codeOf(token),
    (code) => code === Code.Unavailable,
  );
  await mend();
  await until(
    () => codeOf(token),
    (code) => code === 0,
  );
});

test("a stop while the database is away ends, and says what it could not write", async () => {
  const server = await startServer({ shutdownTimeoutMs: 500 });
  const { token, userId } = await createUserAndKey(server.asStaff, "stop");
  await server.as(token).users.getUser({ userId });
  const mend = await breakDatabase(server);
  await server
    .as(token)
    .users.getUser({ userId })
    .catch(() => {});
  await server.close().catch(() => {});
  await mend();
  assert.ok(
    server.logLines.some(({ err }) =>
      /calls could not be written/.test((err as { message?: string })?.message ?? ""),
    ),
  );
});

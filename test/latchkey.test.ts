/** `createLatchkey()`: a program's own routers on Connect's stock adapters, guarded, counted and logged for real. */
import assert from "node:assert/strict";
import http from "node:http";
import http2 from "node:http2";
import type { AddressInfo } from "node:net";
import { after, before, describe, test } from "node:test";
import type { DescService } from "@bufbuild/protobuf";
import {
  Code,
  ConnectError,
  type ConnectRouter,
  type ConnectRouterOptions,
  type ContextValues,
  createClient,
  createRouterTransport,
  type Transport,
} from "@connectrpc/connect";
import { expressConnectMiddleware } from "@connectrpc/connect-express";
import { fastifyConnectPlugin } from "@connectrpc/connect-fastify";
import { connectNodeAdapter, createConnectTransport, createGrpcTransport } from "@connectrpc/connect-node";
import express from "express";
import Fastify from "fastify";
import postgres from "postgres";
import { peerAddressKey } from "../src/auth/call.ts";
import { getPrincipal } from "../src/auth/principal.ts";
import { getDenial, withApiKey } from "../src/client.ts";
import { ApiKeyService } from "../src/gen/latchkey/v1/api_key_service_pb.js";
import { createLatchkey, type Latchkey } from "../src/latchkey.ts";
import type { PeerRequest } from "../src/rpc/peer-address.ts";
import { callAll, compileTableServices, implement, type Kind, methodOf } from "./auth/table-services.ts";
import { createTestDatabase, openSql } from "./harness/postgres.ts";
import { noteSecret } from "./harness/secrets.ts";
import { clientsOf, createUserAndKey, newDirectory, secretKey } from "./harness/server.ts";
import { until } from "./harness/until.ts";

/** What a program hands to an adapter. */
interface AdapterOptions extends Pick<ConnectRouterOptions, "interceptors" | "requestGate"> {
  routes: (router: ConnectRouter) => void;
  contextValues?: (req: PeerRequest) => ContextValues;
}

interface Host {
  readonly url: string;
  close(): Promise<void>;
}

const hosts: Record<string, { http2: boolean; start: (options: AdapterOptions) => Promise<Host> }> = {
  "node:http": {
    http2: false,
    start: (options) => listen(http.createServer(connectNodeAdapter({ ...options }))),
  },
  "node:http2": {
    http2: true,
    start: (options) => listen(http2.createServer(connectNodeAdapter({ ...options }))),
  },
  Express: {
    http2: false,
    start(options) {
      const app = express().set("trust proxy", "loopback");
      return listen(http.createServer(app.use(expressConnectMiddleware({ ...options }))));
    },
  },
  "Fastify, HTTP/1.1": {
    http2: false,
    async start(options) {
      const app = Fastify({ trustProxy: "127.0.0.1" });
      await app.register(fastifyConnectPlugin, { ...options });
      return { url: await app.listen({ port: 0 }), close: () => app.close() };
    },
  },
  "Fastify, HTTP/2": {
    http2: true,
    async start(options) {
      const app = Fastify({ http2: true, http2SessionTimeout: 100 });
      await app.register(fastifyConnectPlugin, { ...options });
      return { url: await app.listen({ port: 0 }), close: () => app.close() };
    },
  },
};

async function listen(server: http.Server | http2.Http2Server): Promise<Host> {
  const sessions = new Set<http2.Http2Session>();
  server.on("session", (session: http2.Http2Session) => sessions.add(session));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}`,
    close() {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      for (const session of sessions) session.destroy();
      return closed;
    },
  };
}

let compiled: Record<string, DescService>;
let databaseUrl: string;
let latchkey: Latchkey;
let sql: postgres.Sql;
/** Latchkey's own services, on no network at all. */
let staff: ReturnType<typeof clientsOf>;
const logLines: string[] = [];

before(async () => {
  compiled = compileTableServices();
  databaseUrl = await createTestDatabase();
  sql = openSql(databaseUrl);
  latchkey = await createLatchkey({
    databaseUrl,
    dataDir: newDirectory(),
    secretKey: noteSecret(secretKey),
    logStream: { write: (line) => void logLines.push(line) },
  });
  const transport = createRouterTransport(latchkey.routes, {
    router: { interceptors: [latchkey.apiKeyInterceptor()] },
    transport: { interceptors: [withApiKey(secretKey)] },
  });
  staff = clientsOf(transport);
});
after(async () => {
  await latchkey.close();
  await sql.end();
  assert.deepEqual(logLines, []);
});

const echoName = implement((asked, context) =>
  (async function* () {
    for await (const _ of asked);
    yield getPrincipal(context)?.username ?? "anonymous";
  })(),
);

let calls = 0;

describe("on stock adapters", () => {
  for (const [name, host] of Object.entries(hosts)) {
    for (const withGate of [true, false]) {
      test(`${name}, ${withGate ? "with" : "without"} the gate: calls are let in or refused, counted and logged`, async () => {
        const { url, close } = await host.start({
          interceptors: [latchkey.apiKeyInterceptor()],
          ...(withGate && { requestGate: latchkey.apiKeyGate() }),
          contextValues: latchkey.contextValues,
          routes(router) {
            for (const service of Object.values(compiled)) router.service(service, echoName);
          },
        });
        try {
          const { token, apiKeyId } = await createUserAndKey(staff, `user-${++calls}`);
          const username = `user-${calls}`;
          const interceptors = [withApiKey(token)];
          const transports: Record<string, (mine: typeof interceptors) => Transport> = host.http2
            ? { grpc: (mine) => createGrpcTransport({ baseUrl: url, interceptors: mine }) }
            : {
                connect: (mine) =>
                  createConnectTransport({ baseUrl: url, httpVersion: "1.1", interceptors: mine }),
              };
          const kinds: Kind[] = host.http2 ? ["Unary", "Down", "Up", "Both"] : ["Unary", "Down"];
          for (const [protocol, transportWith] of Object.entries(transports)) {
            for (const kind of kinds) {
              const method = methodOf(compiled.Authenticated, kind);
              assert.deepEqual(await callAll(transportWith(interceptors), method), [username]);
              await assert.rejects(callAll(transportWith([]), method), (error) => {
                assert.equal(getDenial(error)?.reason, "MISSING");
                return true;
              });
              await assert.rejects(
                callAll(transportWith(interceptors), methodOf(compiled.Staff, kind)),
                (error) => getDenial(error)?.reason === "STAFF_REQUIRED",
              );
            }
            const rows = await until(
              () => sql`
                SELECT service, method, protocol, code, denial_reason, host(peer_address) AS peer
                FROM request_logs WHERE api_key_id = ${apiKeyId} ORDER BY time, id`,
              (found) => found.length >= 2 * kinds.length,
            );
            const row = (service: string, method: Kind, code: number, denial_reason: string | null) => ({
              ...{ service: `test.access.${service}`, method, protocol, code, denial_reason },
              peer: "127.0.0.1",
            });
            assert.deepEqual(
              [...rows],
              kinds.flatMap((kind) => [
                row("Authenticated", kind, 0, null),
                row("Staff", kind, Code.PermissionDenied, "STAFF_REQUIRED"),
              ]),
            );
            const { apiKey } = await staff.keys.getApiKey({ id: apiKeyId });
            assert.equal(apiKey?.requestCount, BigInt(2 * kinds.length));
          }

          await staff.keys.revokeApiKey({ id: apiKeyId });
          const [transportWith] = Object.values(transports);
          const refused = await until(
            () =>
              callAll(transportWith!(interceptors), methodOf(compiled.Optional, "Unary")).catch(
                (e: unknown) => e,
              ),
            (answer) => answer instanceof ConnectError,
          );
          assert.equal(getDenial(refused)?.reason, "REVOKED");
        } finally {
          await close();
        }
      });
    }
  }
});

describe("where calls come from", () => {
  let bound: string;
  before(async () => {
    const { token } = await staff.keys.createApiKey({
      userId: 2n,
      name: "bound",
      allowedAddresses: ["127.0.0.1/32", "203.0.113.0/24"],
    });
    bound = noteSecret(token);
  });

  const callOn = async (name: string, told: boolean, headers: Record<string, string> = {}) => {
    const { url, close } = await hosts[name]!.start({
      interceptors: [latchkey.apiKeyInterceptor()],
      requestGate: latchkey.apiKeyGate(),
      ...(told && { contextValues: latchkey.contextValues }),
      routes: (router) => void router.service(compiled.Optional!, echoName),
    });
    try {
      const transport = createConnectTransport({
        baseUrl: url,
        httpVersion: "1.1",
        interceptors: [withApiKey(bound)],
      });
      return await callAll(transport, methodOf(compiled.Optional, "Unary"), { headers }).catch(
        (error: unknown) => getDenial(error)?.reason,
      );
    } finally {
      await close();
    }
  };

  test("is known by contextValues; without it, a key that is bound to addresses is refused", async () => {
    assert.deepEqual(await callOn("node:http", true), ["example"]);
    assert.equal(await callOn("node:http", false), "ADDRESS_NOT_ALLOWED");
  });

  test("is what a proxy says where the host trusts it, and the socket's elsewhere", async () => {
    const from = (address: string) => ({ "x-forwarded-for": address });
    for (const host of ["Fastify, HTTP/1.1", "Express"]) {
      assert.deepEqual(await callOn(host, true, from("203.0.113.7")), ["example"], host);
      assert.equal(await callOn(host, true, from("198.51.100.7")), "ADDRESS_NOT_ALLOWED", host);
    }
    assert.deepEqual(await callOn("node:http", true, from("198.51.100.7")), ["example"]);
  });

  test("is read of whatever Node, Fastify and Express tell", () => {
    const of = (req: PeerRequest) => latchkey.contextValues(req);
    for (const [req, expected] of [
      [{ socket: { remoteAddress: "::ffff:203.0.113.7" } }, "203.0.113.7"],
      [{ ip: "2001:db8::1", socket: { remoteAddress: "127.0.0.1" } }, "2001:db8::1"],
      [{ ip: "what the proxy made up", socket: { remoteAddress: "127.0.0.1" } }, "127.0.0.1"],
      [{ ip: undefined, socket: {} }, undefined],
    ] as const) {
      assert.equal(of(req).get(peerAddressKey), expected);
    }
  });
});

describe("requireDeclaredAccess", () => {
  const check = (names: string[]) =>
    createRouterTransport((router) => {
      for (const name of names) router.service(compiled[name]!, echoName);
      latchkey.routes(router);
      latchkey.requireDeclaredAccess(router);
    });

  test("names what declares nothing, and leaves the rest alone", () => {
    check(["Public", "Optional", "Authenticated", "Staff", "ServiceStaff"]);
    assert.throws(() => check(["Public", "Undeclared"]), {
      name: "ConfigError",
      message: /^these methods declare no access: test\.access\.Undeclared\/Unary, /,
    });
  });
});

describe("its life", () => {
  test("settings are checked, and nothing is left open where it cannot start", async () => {
    await assert.rejects(createLatchkey({ databaseUrl: "nonsense" }), { name: "ConfigError" });
    const empty = await createTestDatabase();
    await assert.rejects(createLatchkey({ databaseUrl: empty, dataDir: "/dev/null/none" }), /ENOTDIR/);
  });

  test("with a program's own client: what was counted is committed at the close, and the client lives on", async () => {
    const { searchParams, pathname, username } = new URL(await createTestDatabase());
    const theirs = postgres({
      host: searchParams.get("host") ?? "",
      database: pathname.slice(1),
      username,
      max: 1,
    });
    const other = await createLatchkey({
      sql: theirs,
      dataDir: newDirectory(),
      secretKey: noteSecret(secretKey),
      logLevel: "silent",
    });
    const transport = createRouterTransport(other.routes, {
      router: { interceptors: [other.apiKeyInterceptor()] },
      transport: { interceptors: [withApiKey(secretKey)] },
    });
    for (let n = 0; n < 10; n++) await createClient(ApiKeyService, transport).listApiKeys({});
    await Promise.all([other.close(), other.close()]);
    const [row] = await theirs`SELECT count(*)::int FROM request_logs`;
    assert.equal(row?.count, 10);
    const [open] = await theirs`
      SELECT count(*)::int FROM pg_stat_activity
      WHERE datname = current_database() AND application_name LIKE 'latchkey %'`;
    assert.equal(open?.count, 0);
    await theirs.end();
  });
});

/** Latchkey's interceptor and gate on hosts that are none of ours, their grants from a real database. */
import { randomUUID } from "node:crypto";
import http from "node:http";
import http2 from "node:http2";
import type { AddressInfo, Socket } from "node:net";
import { setTimeout as sleep, setImmediate as turn } from "node:timers/promises";
import type { DescService } from "@bufbuild/protobuf";
import {
  Code,
  ConnectError,
  type ConnectRouter,
  type ConnectRouterOptions,
  type HandlerContext,
  type Transport,
} from "@connectrpc/connect";
import { fastifyConnectPlugin } from "@connectrpc/connect-fastify";
import {
  connectNodeAdapter,
  createConnectTransport,
  createGrpcTransport,
  createGrpcWebTransport,
} from "@connectrpc/connect-node";
import Fastify from "fastify";
import { createAuthorizer } from "../../src/auth/authorizer.ts";
import type { CallRecorder, EndedCall } from "../../src/auth/call.ts";
import { createCredentialReader } from "../../src/auth/credential.ts";
import { apiKeyGate } from "../../src/auth/gate.ts";
import { type GrantSource, GrantsUnavailableError } from "../../src/auth/grant.ts";
import { apiKeyInterceptor } from "../../src/auth/interceptor.ts";
import { createOpenStreams, type OpenStreams } from "../../src/auth/open-streams.ts";
import { createPolicy } from "../../src/auth/policy.ts";
import { getPrincipal } from "../../src/auth/principal.ts";
import { createDecide } from "../../src/auth/verdict.ts";
import { connect, database } from "../../src/db/client.ts";
import { createGrantCache } from "../../src/keys/cache.ts";
import { createFence } from "../../src/keys/fence.ts";
import { createApiKeyStore } from "../../src/keys/store.ts";
import { createUserStore } from "../../src/users/store.ts";
import { secretKey } from "../harness/server.ts";
import { implement } from "./table-services.ts";

/** What a test may look at and turn. */
export interface Parts {
  readonly streams: OpenStreams;
  /** What was recorded, by request id. */
  readonly recorded: Map<string, EndedCall[]>;
  /** Request ids of the calls whose handler ran. */
  readonly ran: string[];
  /** Set: look-ups fail as they do while the database is down. */
  grantsUnavailable: boolean;
  /** False: as a strict recorder whose database is down. */
  accepting: boolean;
  /** Set: a record's commit fails. */
  commitFails: boolean;
  /** Set: a record's commit waits for it. */
  commit: Promise<void> | undefined;
  readonly options: Pick<ConnectRouterOptions, "interceptors" | "requestGate"> & {
    routes: (router: ConnectRouter) => void;
  };
  close(): Promise<void>;
}

/** Longer than any test takes: what ends a stream is the change that was heard, not a look taken in between. */
const maxStalenessMs = 60_000;

/** Joins the parts as server.ts does, but for a recorder that keeps what it is given; `before` it stands another. */
export async function assemble(
  databaseUrl: string,
  services: readonly DescService[],
  withGate: boolean,
  before: (recorder: CallRecorder) => CallRecorder = (recorder) => recorder,
): Promise<Parts> {
  const address = { url: databaseUrl };
  const client = connect(address, { max: 2, purpose: "verdicts", statementTimeoutMs: 10_000 });
  const db = database(client);
  const fence = await createFence({
    connectListener: (events) =>
      connect(address, { max: 1, purpose: "listen", statementTimeoutMs: 0, ...events }),
    heartbeat: connect(address, { max: 1, purpose: "heartbeat", statementTimeoutMs: 10_000 }),
    instanceId: randomUUID(),
    maxStalenessMs,
    onError: () => {},
  });
  const cache = createGrantCache({
    readGrants: createApiKeyStore(db).readGrants,
    hasImportedKeys: createApiKeyStore(db).hasImported,
    readFirstStaffUser: createUserStore(db).firstStaffUser,
    fence,
    maxStalenessMs,
    staleIfErrorMs: 0,
    maxEntries: 100,
  });
  const available = () => {
    if (parts.grantsUnavailable) throw new GrantsUnavailableError("switched off by the test");
  };
  const grants: GrantSource = {
    ...cache,
    find(hash, foreign) {
      available();
      return cache.find(hash, foreign);
    },
    firstStaffUser() {
      available();
      return cache.firstStaffUser();
    },
  };
  const recorder = before({
    accepts: () => parts.accepting,
    record(call) {
      parts.recorded.set(call.requestId, [...(parts.recorded.get(call.requestId) ?? []), call]);
      if (parts.commitFails) return Promise.reject(new Error("not committed"));
      return parts.commit;
    },
  });
  const authorizer = createAuthorizer({
    decide: createDecide({
      authEnabled: true,
      grants,
    }),
    policy: createPolicy({ requireAuth: false, publicMethods: [] }),
    readCredential: createCredentialReader({ apiKeyHeader: "x-api-key", tokenPrefix: "lk", secretKey }),
    apiKeyHeader: "x-api-key",
  });
  const streams = createOpenStreams({
    authorizer,
    grants,
    recheckMs: maxStalenessMs / 2,
    onError: (error) => {
      throw error;
    },
  });
  const ran: string[] = [];
  const parts: Parts = {
    streams,
    recorded: new Map(),
    ran,
    grantsUnavailable: false,
    accepting: true,
    commitFails: false,
    commit: undefined,
    options: {
      interceptors: [apiKeyInterceptor({ authorizer, recorder, streams })],
      ...(withGate && { requestGate: apiKeyGate({ authorizer, recorder }) }),
      routes(router) {
        const implementation = implement((asked, context) => {
          ran.push(context.requestHeader.get("x-request-id") ?? "");
          return behave(asked, context);
        });
        for (const service of services) router.service(service, implementation);
      },
    },
    async close() {
      streams.close();
      await fence.close();
      await client.end({ timeout: 1 });
    },
  };
  return parts;
}

/** A handler that does as it is asked. */
async function* behave(asked: AsyncIterable<string>, context: HandlerContext): AsyncGenerator<string> {
  let text = "";
  for await (text of asked);
  const { signal } = context;
  const aborted = new Promise((resolve) => signal.addEventListener("abort", resolve, { once: true }));
  if (text.startsWith("late ")) yield "first";
  switch (text.replace("late ", "")) {
    case "not found":
      throw new ConnectError("no such thing", Code.NotFound);
    case "fail":
      throw new Error("the password is swordfish");
    case "return when aborted":
      await aborted;
      return;
    case "rethrow when aborted":
      await aborted;
      throw signal.reason;
    case "sleep":
      // Rejects with an AbortError of Node's.
      await sleep(60_000, undefined, { signal, ref: false });
      return;
    case "hang":
      await new Promise(() => {});
      return;
    case "go on":
      // Does not look at its signal; ends at last so that no test is held up.
      for (let n = 0; n < 1_000_000; n++) {
        yield String(n);
        await turn();
      }
      return;
    default:
      yield getPrincipal(context)?.username ?? "anonymous";
  }
}

export interface Host {
  readonly url: string;
  close(): Promise<void>;
}

export interface HostKind {
  readonly name: string;
  start(options: Parts["options"]): Promise<Host>;
  /** Protocol, as it is recorded, and transport. */
  readonly clients: readonly (readonly [protocol: string, (baseUrl: string) => Transport])[];
}

const overHttp1: HostKind["clients"] = [
  ["connect", (baseUrl) => createConnectTransport({ baseUrl, httpVersion: "1.1", useBinaryFormat: false })],
  ["grpc-web", (baseUrl) => createGrpcWebTransport({ baseUrl, httpVersion: "1.1" })],
];
const overHttp2: HostKind["clients"] = [
  ["grpc", (baseUrl) => createGrpcTransport({ baseUrl })],
  ["connect", (baseUrl) => createConnectTransport({ baseUrl, httpVersion: "2" })],
];

export const hostKinds: readonly HostKind[] = [
  {
    name: "node:http",
    start: (options) => listen(http.createServer(connectNodeAdapter({ ...options }))),
    clients: overHttp1,
  },
  {
    name: "node:http2",
    start: (options) => listen(http2.createServer(connectNodeAdapter({ ...options }))),
    clients: overHttp2,
  },
  {
    name: "Fastify, HTTP/1.1",
    async start(options) {
      const app = Fastify();
      await app.register(fastifyConnectPlugin, { ...options });
      await app.ready();
      return listen(app.server, () => app.close());
    },
    clients: overHttp1,
  },
  {
    name: "Fastify, HTTP/2",
    async start(options) {
      const app = Fastify({ http2: true });
      await app.register(fastifyConnectPlugin, { ...options });
      await app.ready();
      return listen(app.server, () => app.close());
    },
    clients: overHttp2,
  },
];

async function listen(
  server: http.Server | http2.Http2Server,
  closeApp: () => Promise<unknown> = async () => {},
): Promise<Host> {
  const sockets = new Set<Socket>();
  server.on("connection", (socket: Socket) => {
    sockets.add(socket);
    socket.once("close", () => sockets.delete(socket));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}`,
    async close() {
      const closed = new Promise((resolve) => server.close(resolve));
      for (const socket of sockets) socket.destroy();
      await closeApp();
      await closed;
    },
  };
}

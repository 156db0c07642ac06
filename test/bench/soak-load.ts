/** A mixed load at a steady rate: what a day brings, all at once and in small. */
import { createConnection } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { Code, type Interceptor } from "@connectrpc/connect";
import { createGrpcTransport, Http2SessionManager } from "@connectrpc/connect-node";
import { createToken } from "../../src/auth/token.ts";
import { type Clients, clientsOf, connectTransport } from "../harness/server.ts";
import { createLedger, type Ledger } from "./soak-ledger.ts";

export interface SoakLoad {
  readonly ledger: Ledger;
  /** Calls that were not sent in time because too many were under way. */
  readonly held: number;
  /** Keys that were made, rotated and revoked. */
  readonly lives: number;
  /** The longest that a key was still let in after its revocation was answered. */
  readonly longestLeftMs: number;
  /** Resolves once all calls have ended. */
  stop(): Promise<void>;
}

interface Key {
  readonly id: string;
  readonly userId: bigint;
  readonly http: Clients;
  readonly grpc: Clients;
}

const tickMs = 20;
const mostRunning = 500;
const timeoutMs = 30_000;
const withToken =
  (token: string): Interceptor =>
  (next) =>
  (req) => {
    req.header.set("x-api-key", token);
    return next(req);
  };
const lastHour = () => ({
  startTime: timestampFromMs(Date.now() - 3_600_000),
  endTime: timestampFromMs(Date.now()),
});
const metadata = (token: string) => ({ headers: { "x-api-key": token } });

export async function startSoakLoad(options: {
  url: string;
  staffToken: string;
  callsPerS: number;
}): Promise<SoakLoad> {
  const { url, staffToken, callsPerS } = options;
  const ledger = createLedger();
  // The gRPC connections that all keys share, as a proxy's calls would.
  const shared = clientsOf(createGrpcTransport({ baseUrl: url, defaultTimeoutMs: timeoutMs }));
  const staff = clientsOf(connectTransport(url, staffToken));
  const users = await Promise.all(
    Array.from({ length: 5 }, (_, i) =>
      staff.users.createUser({ username: `soak-${i}-${Date.now()}`, email: `soak-${i}@example.com` }),
    ),
  );

  async function makeKey(userId: bigint, restriction: { allowedMethods?: string[] } = {}) {
    const { apiKey, token } = await staff.keys.createApiKey({ userId, name: "soak", ...restriction });
    return { id: apiKey?.id ?? "", token };
  }
  const userOf = (n: number) => users[n % users.length]?.id ?? 0n;
  const keys: Key[] = [];
  for (let i = 0; i < 20; i++) {
    const { id, token } = await makeKey(userOf(i));
    const bound = createGrpcTransport({
      baseUrl: url,
      defaultTimeoutMs: timeoutMs,
      interceptors: [withToken(token)],
    });
    keys.push({
      id,
      userId: userOf(i),
      http: clientsOf(connectTransport(url, token)),
      grpc: clientsOf(bound),
    });
  }
  const restricted = await makeKey(userOf(0), { allowedMethods: ["api.users.UserService/GetUser"] });
  const aborting = await makeKey(userOf(1));

  let turn = 0;
  let lives = 0;
  let longestLeftMs = 0;
  let background: Promise<unknown>[] = [];
  const key = () => keys[turn % keys.length] as Key;

  const unary = (k: Key, clients: Clients) =>
    ledger.run({
      what: "GetUser",
      apiKeyId: k.id,
      timed: true,
      send: () => clients.users.getUser({ userId: k.userId }),
    });

  function badToken(): Promise<void> {
    const token = turn % 2 === 0 ? createToken("lk") : "lk_no-token-at-all";
    const send = () => shared.users.getUser({ userId: userOf(0) }, metadata(token));
    return ledger.run({ what: "a bad token", expect: Code.Unauthenticated, send });
  }

  function denied(): Promise<void> {
    const send = () => shared.users.updateProfile({ bio: "denied" }, metadata(restricted.token));
    return ledger.run({
      what: "a method that is not allowed",
      apiKeyId: restricted.id,
      expect: Code.PermissionDenied,
      send,
    });
  }

  /** Reads a stream, to its end or its first message only. */
  function stream(k: Key): Promise<void> {
    const whole = turn % 2 === 0;
    const clients = turn % 4 < 2 ? k.grpc : k.http;
    const read = async () => {
      for await (const _ of clients.users.listUsers({ limit: 100 })) if (!whole) break;
    };
    return ledger.run({ what: "ListUsers", apiKeyId: k.id, send: read });
  }

  function abort(): Promise<void> {
    const controller = new AbortController();
    setTimeout(() => controller.abort(), turn % 7);
    const send = () =>
      shared.users.getUser({ userId: userOf(1) }, { ...metadata(aborting.token), signal: controller.signal });
    return ledger.run({ what: "an aborted call", apiKeyId: aborting.id, aborted: true, send });
  }

  function listing(k: Key): Promise<void> {
    const listings = [
      () => k.http.keys.listApiKeys({ pageSize: 20 }),
      () => k.grpc.logs.listRequestLogs({ pageSize: 20 }),
      () => k.grpc.logs.listRequestLogs({ pageSize: 20, filter: { code: "permission_denied" } }),
      () => k.http.stats.getOverview(lastHour()),
    ];
    const send = listings[turn % listings.length] as () => Promise<unknown>;
    return ledger.run({ what: "a listing", apiKeyId: k.id, send });
  }

  /** Of 100 calls, so many of each. */
  const mix: readonly [number, (k: Key) => Promise<void>][] = [
    [55, (k) => unary(k, k.grpc)],
    [30, (k) => unary(k, k.http)],
    [4, badToken],
    [3, denied],
    [3, stream],
    [3, abort],
    [2, listing],
  ];
  // In a fixed order that spreads each kind: 37 and 100 have no common divisor.
  const plan = mix.flatMap(([n, send]) => Array.from({ length: n }, () => send));
  const next = () => plan[(turn++ * 37) % plan.length] as (k: Key) => Promise<void>;

  /** A tail that is opened, read for a while and left. */
  async function tail(): Promise<void> {
    const controller = new AbortController();
    setTimeout(() => controller.abort(), 3000);
    const read = async () => {
      const rows = shared.logs.tailRequestLogs({}, { ...metadata(staffToken), signal: controller.signal });
      for await (const _ of rows);
    };
    await ledger.run({ what: "a tail", expect: Code.Canceled, send: read });
  }

  /** A connection of its own for one call, and one that ends in the middle of its first words. */
  async function connection(): Promise<void> {
    const sessionManager = new Http2SessionManager(url);
    const { users: own } = clientsOf(createGrpcTransport({ baseUrl: url, sessionManager }));
    const send = () => own.getUser({ userId: userOf(0) });
    await ledger.run({ what: "a new connection", send });
    sessionManager.abort();
    const { hostname, port } = new URL(url);
    const socket = createConnection(Number(port), hostname, () => {
      socket.write("PRI * HT");
      setTimeout(() => socket.destroy(), 50);
    });
    socket.on("error", () => {});
  }

  /** A key from its making, by way of a rotation, to its end. */
  async function life(): Promise<void> {
    const userId = userOf(lives);
    const call = ({ id, token }: { id: string; token: string }) =>
      ledger.run({
        what: "a young key",
        apiKeyId: id,
        send: () => shared.users.getUser({ userId }, metadata(token)),
      });
    const first = await makeKey(userId);
    await Promise.all([call(first), call(first)]);
    const rotated = await staff.keys.rotateApiKey({ id: first.id, grace: { seconds: 60n } });
    const second = { id: rotated.apiKey?.id ?? "", token: rotated.token };
    await Promise.all([call(first), call(second)]);
    for (const ended of [first, second]) {
      await staff.keys.revokeApiKey({ id: ended.id });
      await refused(ended, userId);
    }
    lives++;
  }

  /** Calls until it is refused: the bound is 2 s. */
  async function refused({ id, token }: { id: string; token: string }, userId: bigint): Promise<void> {
    const began = performance.now();
    for (let letIn = true; letIn; ) {
      letIn = false;
      const send = async () => {
        await shared.users.getUser({ userId }, metadata(token));
        letIn = true;
      };
      const leftMs = performance.now() - began;
      if (leftMs < 2000) await ledger.run({ what: "a revoked key", apiKeyId: id, aborted: true, send });
      else await ledger.run({ what: "a revoked key", apiKeyId: id, expect: Code.Unauthenticated, send });
      if (letIn) longestLeftMs = performance.now() - began;
      if (letIn && leftMs > 5000) return;
    }
  }

  let held = 0;
  let stopped = false;
  const began = performance.now();
  const timer = setInterval(() => {
    const due = Math.floor(((performance.now() - began) * callsPerS) / 1000);
    while (turn + held < due) {
      if (ledger.running > mostRunning) held++;
      else void next()(key());
    }
  }, tickMs);

  async function repeat(everyMs: number, what: string, run: () => Promise<void>): Promise<void> {
    const ended = new AbortController();
    stops.push(() => ended.abort());
    while (!stopped) {
      await run().catch((error: unknown) => ledger.run({ what, send: () => Promise.reject(error as Error) }));
      await delay(everyMs, undefined, { signal: ended.signal }).catch(() => {});
    }
  }
  const stops: (() => void)[] = [];
  background = [
    repeat(4000, "the life of a key", life),
    repeat(5000, "a connection", connection),
    repeat(10_000, "a tail", tail),
  ];

  return {
    ledger,
    get held() {
      return held;
    },
    get lives() {
      return lives;
    },
    get longestLeftMs() {
      return longestLeftMs;
    },
    async stop() {
      stopped = true;
      clearInterval(timer);
      for (const stop of stops) stop();
      await Promise.all(background);
      while (ledger.running > 0) await delay(20);
    },
  };
}

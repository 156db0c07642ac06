/** After a while of good and abusive HTTP/2 connections side by side, a server is as it was before. */
import assert from "node:assert/strict";
import { connect as connectHttp2 } from "node:http2";
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { type TestContext, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { scrape } from "../harness/metrics.ts";
import { freePort } from "../harness/ports.ts";
import { newDirectory } from "../harness/server.ts";
import { until } from "../harness/until.ts";
import { call } from "./callers.ts";
import {
  callHeaders,
  closed,
  flag,
  frame,
  frameType,
  headerBlock,
  magic,
  openSocket,
  preface,
  uint32,
} from "./frames.ts";
import { pick, type Random, randomFrom, scale, seed } from "./fuzz.ts";
import type { Held } from "./report-objects.ts";
import { startTarget, type Target } from "./target.ts";

const soakMs = 10_000 * scale;
const actors = 6;
/** What a part may leave above the one before: caches, but not what grows with its connections. */
const growth = { bytes: 15 * 2 ** 20, sockets: 15 };
/** The same of emitters, beyond one for each connection: Node keeps a session that had a timeout until that is over. */
const emitterGrowth = 80;

interface Scene {
  readonly target: Target;
  readonly random: Random;
  readonly socket: Socket;
}

const { headers, data, settings, ping, rstStream, goaway, windowUpdate, continuation } = frameType;
/** A message of GetUser for user 1, with its flag and length before it. */
const body = Buffer.from([0, 0, 0, 0, 2, 8, 1]);
const streams = (count: number) => Array.from({ length: count }, (_, i) => 2 * i + 1);
const open = (stream: number, token: string) => frame(headers, flag.endHeaders, stream, callHeaders(token));
const whole = (stream: number, token: string) =>
  Buffer.concat([open(stream, token), frame(data, flag.endStream, stream, body)]);
const watch = (stream: number) =>
  Buffer.concat([
    frame(
      headers,
      flag.endHeaders,
      stream,
      headerBlock([
        [":method", "POST"],
        [":scheme", "http"],
        [":path", "/grpc.health.v1.Health/Watch"],
        [":authority", "latchkey.test"],
        ["content-type", "application/grpc"],
        ["te", "trailers"],
      ]),
    ),
    frame(data, flag.endStream, stream, Buffer.alloc(5)),
  ]);
const initialWindow = (bytes: number) =>
  frame(settings, 0, 0, Buffer.concat([Buffer.from([0, 4]), uint32(bytes)]));

/** Each breaks the protocol. */
const wrong: readonly Buffer[] = [
  frame(settings, 0, 0, Buffer.alloc(5)),
  frame(ping, 0, 0, Buffer.alloc(7)),
  frame(windowUpdate, 0, 0, uint32(0)),
  frame(data, 0, 99, body),
  frame(continuation, 0, 1),
  frame(headers, flag.endHeaders, 2, callHeaders()),
  frame(headers, flag.endHeaders, 99, Buffer.from([0xbe])),
  frame(headers, flag.endHeaders, 99, headerBlock([["X-Upper", "1"]])),
  frame(data, 0, 1, Buffer.alloc(20_000)),
  frame(goaway, 0, 1, Buffer.alloc(8)),
];

/** What connections do; each is ended after it, in one of several ways. */
const abuses: Record<string, (scene: Scene) => Promise<unknown> | unknown> = {
  "calls that are answered": ({ socket, target }) =>
    socket.write(Buffer.concat([preface, ...streams(20).map((stream) => whole(stream, target.token))])),
  "calls that are reset": ({ socket, target }) =>
    socket.write(
      Buffer.concat([
        preface,
        ...streams(100).flatMap((stream) => [
          open(stream, target.token),
          frame(rstStream, 0, stream, uint32(8)),
        ]),
      ]),
    ),
  "calls without an end": ({ socket, target }) =>
    socket.write(Buffer.concat([preface, ...streams(400).map((stream) => open(stream, target.token))])),
  "bodies in single bytes": ({ socket, target }) =>
    socket.write(
      Buffer.concat([
        preface,
        ...streams(20).flatMap((stream) => [
          open(stream, target.token),
          ...[...body].map((byte) => frame(data, 0, stream, Buffer.of(byte))),
          frame(data, flag.endStream, stream),
        ]),
      ]),
    ),
  "answers that find no window": ({ socket, target }) =>
    socket.write(
      Buffer.concat([magic, initialWindow(0), ...streams(100).map((stream) => whole(stream, target.token))]),
    ),
  "windows that open by a byte": async ({ socket, target }) => {
    socket.write(Buffer.concat([magic, initialWindow(0), whole(1, target.token)]));
    for (let n = 0; n < 20 && !socket.destroyed; n++) {
      socket.write(frame(windowUpdate, 0, 1, uint32(1)));
      await sleep(2);
    }
  },
  "streams that stay open": ({ socket }) => socket.write(Buffer.concat([preface, ...streams(50).map(watch)])),
  "what breaks the protocol": ({ socket, target, random }) =>
    socket.write(
      Buffer.concat([
        preface,
        ...streams(10).map((stream) => whole(stream, target.token)),
        pick(random, wrong),
      ]),
    ),
  "a preface and no more": ({ socket, random }) =>
    socket.write(preface.subarray(0, 1 + Math.floor(random() * 33))),
  "a request that breaks off": ({ socket, target, random }) => {
    const bytes = Buffer.concat([preface, whole(1, target.token), whole(3, target.token)]);
    socket.write(bytes.subarray(0, Math.floor(random() * bytes.length)));
  },
  "a request byte by byte": async ({ socket, target }) => {
    for (const byte of Buffer.concat([preface, whole(1, target.token)])) {
      if (socket.destroyed) return;
      socket.write(Buffer.of(byte));
      await sleep(0);
    }
  },
  "a header block without an end": ({ socket }) => {
    const more = frame(continuation, 0, 1, headerBlock([["x-more", "x".repeat(8000)]]));
    socket.write(Buffer.concat([preface, frame(headers, 0, 1, callHeaders()), ...Array(20).fill(more)]));
  },
  "PINGs and SETTINGS": ({ socket }) =>
    socket.write(
      Buffer.concat([
        preface,
        ...Array(300).fill(Buffer.concat([frame(ping, 0, 0, Buffer.alloc(8)), frame(settings, 0, 0)])),
      ]),
    ),
  "GOAWAY amid calls": ({ socket, target }) =>
    socket.write(
      Buffer.concat([
        preface,
        ...streams(30).map((stream) => whole(stream, target.token)),
        frame(goaway, 0, 0, Buffer.alloc(8)),
      ]),
    ),
};

const endings: readonly ((socket: Socket) => void)[] = [
  (socket) => socket.end(),
  (socket) => socket.destroy(),
  (socket) => socket.resetAndDestroy(),
];

/** Goes through the abuses in turn, as do others with the same counts. */
async function abuse(
  target: Target,
  random: Random,
  counts: Map<string, number>,
  untilMs: number,
): Promise<void> {
  while (performance.now() < untilMs) {
    const [name, count] = [...counts].reduce((least, each) => (each[1] < least[1] ? each : least));
    counts.set(name, count + 1);
    const socket = openSocket(target.port);
    const gone = closed(socket);
    await abuses[name]?.({ target, random, socket });
    // From at once, amid what it has sent, to long after all was answered.
    await Promise.race([gone, sleep(random() ** 3 * 400)]);
    pick(random, endings)(socket);
    // The server has to end its side: that of a client which only ended its own too.
    await gone;
  }
}

/** Connections that come, are served, and go; resolves with how many. */
async function behave(target: Target, untilMs: number): Promise<number> {
  let sessions = 0;
  while (performance.now() < untilMs) {
    const session = connectHttp2(target.url);
    for (let n = 0; n < 5; n++) {
      await Promise.all(Array.from({ length: 5 }, () => call(session, target.token, target.userId)));
    }
    await new Promise<void>((resolve) => session.close(resolve));
    sessions++;
  }
  return sessions;
}

/** Resolves with how many connections there were. */
async function soak(t: TestContext, target: Target, part: number): Promise<number> {
  const counts = new Map(Object.keys(abuses).map((name) => [name, 0]));
  const untilMs = performance.now() + soakMs;
  const [served] = await Promise.all([
    behave(target, untilMs),
    ...Array.from({ length: actors }, (_, i) =>
      abuse(target, randomFrom(seed + 1000 * part + i), counts, untilMs),
    ),
  ]);
  const [least, most] = [Math.min(...counts.values()), Math.max(...counts.values())];
  t.diagnostic(
    `seed ${seed}: ${served} good connections, ${least} to ${most} connections of each of ${counts.size} abuses`,
  );
  assert.ok(least > 0, "every abuse was tried");
  assert.ok(served > 0);
  return served + [...counts.values()].reduce((sum, count) => sum + count);
}

/** What the server holds after a collection. */
async function heldBy(path: string): Promise<Held> {
  return JSON.parse(await text(connect(path)));
}

const preload = new URL("report-objects.ts", import.meta.url).pathname;

for (const leanUnary of ["true", "false"]) {
  test(`a soak of mixed connections leaves nothing behind, lean unary path ${leanUnary}`, async (t) => {
    const metricsPort = await freePort();
    const reports = join(newDirectory(), "objects");
    const target = await startTarget({
      LATCHKEY_LEAN_UNARY: leanUnary,
      LATCHKEY_METRICS_PORT: String(metricsPort),
      NODE_OPTIONS: `--expose-gc --import=${preload}`,
      REPORT_OBJECTS: reports,
    });
    t.after(() => target.stop(t));
    const figures = async () => {
      const { sum } = await scrape(`http://127.0.0.1:${metricsPort}/metrics`);
      return {
        running: sum("latchkey_rpcs_running"),
        streams: sum("latchkey_open_streams"),
        sessions: sum("latchkey_connections", { protocol: "http2" }),
        undecided: sum("latchkey_connections", { protocol: "undecided" }),
      };
    };
    const held: Held[] = [];
    let connections = 0;
    for (const part of [1, 2]) {
      await target.attack(t, `soak, part ${part}`, 400, async () => {
        connections = await soak(t, target, part);
      });
      // The callers' own session is left.
      await until(figures, (now) => now.running + now.streams + now.undecided === 0 && now.sessions <= 1);
      held.push(await heldBy(reports));
    }
    t.diagnostic(`held after part 1 and 2: ${JSON.stringify(held)}`);
    const [first, second] = held as [Held, Held];
    const most = { ...growth, emitters: connections + emitterGrowth };
    for (const what of ["bytes", "sockets", "emitters"] as const) {
      const grown = second[what] - first[what];
      assert.ok(grown < most[what], `${what} went on growing: by ${grown} to ${second[what]}`);
    }
  });
}

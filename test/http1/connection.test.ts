/** Connections that are served here until something odd comes, and are node:http's from then on. */
import assert from "node:assert/strict";
import { once } from "node:events";
import type { IncomingMessage } from "node:http";
import net, { type AddressInfo, type Socket } from "node:net";
import { buffer } from "node:stream/consumers";
import { type TestContext, test } from "node:test";
import tls from "node:tls";
import { isDeepStrictEqual } from "node:util";
import type { Http1Connection, Http1Request } from "../../src/http1/connection.ts";
import { createListener, type Listener } from "../../src/listener.ts";
import type { ListenerOptions } from "../../src/listener-options.ts";
import { listenerOptions } from "../harness/listener-options.ts";
import { pem } from "../harness/pem.ts";
import { until } from "../harness/until.ts";

/** A request that the listener has offered, as the tests answer it. */
interface Asked {
  readonly request: Http1Request;
  readonly connection: Http1Connection;
  readonly passOn: (onRequest: (req: IncomingMessage) => void) => void;
  /** How often it was told that its end has come. */
  closed: number;
  answer(text: string): void;
}

interface Served {
  readonly listener: Listener;
  readonly port: number;
  readonly asked: Asked[];
  /** URLs and bodies that node:http has read. */
  readonly byNode: string[];
}

/** `onAsked` answers, or does not; by default with the request's body. "node": node:http is to have it. */
async function serve(
  t: TestContext,
  onAsked: (asked: Asked) => unknown = (asked) => asked.answer(String(asked.request.body)),
  overrides: Partial<ListenerOptions> = {},
): Promise<Served> {
  const asked: Asked[] = [];
  const byNode: string[] = [];
  const listener = createListener(listenerOptions(overrides), async (req, res) => {
    const body = await buffer(req);
    byNode.push(`${req.url} ${body}`);
    res.end(`node:${body}`);
  });
  listener.takeUnary({
    takeStream: () => false,
    takeRequest: () => false,
    takeHttp1(request, connection, passOn) {
      const one: Asked = {
        request,
        connection,
        passOn,
        closed: 0,
        answer(text) {
          const fields = `content-length: ${Buffer.byteLength(text)}\r\n${connection.connectionFields()}`;
          connection.answer(`HTTP/1.1 200 OK\r\n${fields}\r\n${text}`, "utf8");
        },
      };
      asked.push(one);
      return onAsked(one) === "node" ? undefined : { onClosed: () => void one.closed++ };
    },
  });
  await once(listener.server.listen(0, "127.0.0.1"), "listening");
  t.after(async () => {
    const closed = listener.close();
    listener.destroy();
    await closed;
  });
  return { listener, port: (listener.server.address() as AddressInfo).port, asked, byNode };
}

interface Client {
  readonly socket: Socket;
  /** The bodies that were answered. */
  readonly bodies: string[];
  /** All that came. */
  readonly raw: string;
  readonly hasEnded: boolean;
}

function listen(t: TestContext, socket: Socket): Client {
  let raw = "";
  let hasEnded = false;
  socket.setNoDelay(true);
  socket
    .on("error", () => {})
    .on("data", (chunk: Buffer) => {
      raw += chunk.toString("latin1");
    });
  socket.on("end", () => {
    hasEnded = true;
  });
  t.after(() => socket.destroy());
  return {
    socket,
    get bodies() {
      // Those of node:http are in chunks or not, by how they were written.
      return [...raw.matchAll(/\r\n\r\n([^\r]*?)(?=HTTP\/1\.1|$)/g)].map(([, body]) => body ?? "");
    },
    get raw() {
      return raw;
    },
    get hasEnded() {
      return hasEnded;
    },
  };
}

const open = (t: TestContext, port: number, halfOpen = false) =>
  listen(t, net.connect({ port, host: "127.0.0.1", allowHalfOpen: halfOpen }));

const post = (body: string, path = "/s/M", ...fields: string[]) =>
  `${[`POST ${path} HTTP/1.1`, "host: a", ...fields, `content-length: ${Buffer.byteLength(body)}`].join("\r\n")}\r\n\r\n${body}`;

/** Waits until a value is what it should be. */
async function becomes<T>(value: () => T, expected: T): Promise<void> {
  await until(value, (now) => isDeepStrictEqual(now, expected));
  assert.deepEqual(value(), expected);
}

test("requests are answered in their order, however many come at once, and say that the connection stays", async (t) => {
  const { port, asked } = await serve(t);
  const client = open(t, port);
  const bodies = Array.from({ length: 100 }, (_, i) => String(i));
  client.socket.write(bodies.map((body) => post(body)).join(""));
  await becomes(() => client.bodies, bodies);
  assert.equal(client.raw.match(/Connection: keep-alive\r\nKeep-Alive: timeout=10\r\n/g)?.length, 100);
  await becomes(
    () => asked.map(({ closed }) => closed),
    bodies.map(() => 1),
  );
});

test("the next request begins when the one before is answered", async (t) => {
  const { port, asked } = await serve(t, () => {});
  const client = open(t, port);
  client.socket.write(post("a") + post("b"));
  await becomes(() => asked.length, 1);
  client.socket.write(post("c"));
  await new Promise((resolve) => setTimeout(resolve, 20));
  assert.equal(asked.length, 1);
  asked[0]?.answer("A");
  await becomes(() => asked.map(({ request }) => String(request.body)), ["a", "b"]);
  asked[1]?.answer("B");
  await becomes(() => asked.length, 3);
  asked[2]?.answer("C");
  await becomes(() => client.bodies, ["A", "B", "C"]);
});

test("a client with many requests does not keep others from their turn", async (t) => {
  const { port, asked } = await serve(t);
  const [many, one] = [open(t, port), open(t, port)];
  // Both connections are known, so that both are read in the same turn.
  many.socket.write(post("first"));
  one.socket.write(post("first"));
  await becomes(() => [many.bodies.length, one.bodies.length], [1, 1]);
  many.socket.write(post("many").repeat(500));
  one.socket.write(post("one"));
  await becomes(() => [many.bodies.length, one.bodies.length], [501, 2]);
  const at = asked.findIndex(({ request }) => String(request.body) === "one");
  assert.ok(at < 100, `it was the ${at}th of 500`);
});

test("of a client that sends on while its request runs, little is read; all of it is answered", async (t) => {
  const { port, asked } = await serve(t, (one) => asked.length > 1 && one.answer("later"));
  const client = open(t, port);
  const body = "x".repeat(60_000);
  client.socket.write(post("first"));
  await becomes(() => asked.length, 1);
  const own = asked[0]?.connection.socket;
  for (let i = 0; i < 200; i++) client.socket.write(post(body));
  await until(
    () => own?.isPaused(),
    (paused) => paused === true,
  );
  await new Promise((resolve) => setTimeout(resolve, 50));
  assert.ok((own?.bytesRead ?? Infinity) < 300_000, `${own?.bytesRead} bytes were read`);
  asked[0]?.answer("first");
  await becomes(() => client.bodies.length, 201);
  assert.ok(asked.slice(1).every(({ request }) => request.body.length === 60_000));
});

test("of a client whose many requests wait for their turn, little is read ahead", async (t) => {
  let begunBytes = 0;
  let most = 0;
  // Of small ones, each read brings many times what has its turn.
  const text = post("");
  const { port } = await serve(t, (one) => {
    most = Math.max(most, one.connection.socket.bytesRead - begunBytes);
    begunBytes += text.length;
    one.answer("");
  });
  const client = open(t, port);
  client.socket.write(text.repeat(20_000));
  await becomes(() => client.raw.match(/content-length: 0/g)?.length, 20_000);
  assert.ok(most < 300_000, `${most} bytes were read ahead`);
});

test("a head that repeats itself is read once, one that differs by a byte is read anew", async (t) => {
  const { port, asked } = await serve(t);
  const client = open(t, port);
  const texts = [
    post("aa"),
    post("bb"),
    post("c"),
    post("aa", "/s/N"),
    post("aa", "/s/N", "x: 1"),
    post("aa", "/s/N"),
  ];
  for (const [i, text] of texts.entries()) {
    client.socket.write(text);
    await becomes(() => client.bodies.length, i + 1);
  }
  const heads = asked.map(({ request }) => request.head);
  assert.equal(heads[1], heads[0]);
  assert.equal(new Set(heads).size, 5);
  assert.deepEqual(
    asked.map(({ request }) => [request.head.path, request.head.headers.x, String(request.body)]),
    [
      ["/s/M", undefined, "aa"],
      ["/s/M", undefined, "bb"],
      ["/s/M", undefined, "c"],
      ["/s/N", undefined, "aa"],
      ["/s/N", "1", "aa"],
      ["/s/N", undefined, "aa"],
    ],
  );
});

test("long heads are not kept by connections that rest", async (t) => {
  const { port, asked } = await serve(t);
  const client = open(t, port);
  const long = `x: ${"y".repeat(4000)}`;
  client.socket.write(post("a", "/s/M", long) + post("a", "/s/M", long));
  await becomes(() => client.bodies.length, 2);
  assert.notEqual(asked[0]?.request.head, asked[1]?.request.head);
});

const odd: Record<string, string> = {
  "a body in chunks":
    "POST /odd HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nodd\r\n0\r\n\r\n",
  "a header that comes twice": post("odd", "/odd", "x: 1", "x: 2"),
  "a request of which nobody here wants to know": post("odd", "/refused"),
};
for (const [name, bytes] of Object.entries(odd)) {
  test(`${name} is node:http's, and so is all that follows`, async (t) => {
    const { port, asked, byNode } = await serve(t, (one) =>
      one.request.head.path === "/refused" ? "node" : one.answer("here"),
    );
    const client = open(t, port);
    client.socket.write(post("1") + post("2") + bytes + post("3"));
    await becomes(() => byNode.length, 2);
    assert.match(byNode[0] ?? "", /odd$/);
    assert.equal(byNode[1], "/s/M 3");
    client.socket.write(post("4"));
    await becomes(() => byNode[2], "/s/M 4");
    await until(
      () => client.raw,
      (raw) => raw.includes("node:4"),
    );
    assert.deepEqual(client.raw.match(/here|node:\w+?(?=HTTP|$)/g), [
      "here",
      "here",
      "node:odd",
      "node:3",
      "node:4",
    ]);
    assert.equal(asked.filter(({ request }) => request.head.path === "/s/M").length, 2);
  });
}

test("a request whose rest comes late is node:http's, wherever it is cut", async (t) => {
  const { port, byNode } = await serve(t);
  const text = post("body");
  for (const at of [5, text.length - 20, text.length - 4, text.length - 1]) {
    byNode.length = 0;
    const client = open(t, port);
    client.socket.write(text.slice(0, at));
    await new Promise((resolve) => setTimeout(resolve, 50));
    client.socket.write(text.slice(at));
    await becomes(() => byNode, ["/s/M body"]);
  }
});

test("a head and its body, sent one after the other, are served here", async (t) => {
  const { port, asked, byNode } = await serve(t);
  const client = open(t, port);
  const isInPieces = () => asked.length > 0 && byNode.length === 0;
  // Where the machine is busy, the rest may come too late.
  for (let tries = 0; !isInPieces() && tries < 100; tries++) {
    byNode.length = asked.length = 0;
    const again = open(t, port);
    again.socket.write(post("body").slice(0, -4));
    setImmediate(() => again.socket.write("body"));
    await until(
      () => asked.length + byNode.length,
      (answered) => answered === 1,
    );
  }
  assert.ok(isInPieces());
  client.socket.write(post("a"));
  await becomes(() => client.bodies, ["a"]);
});

test("who ends its side in the middle of a request is told that it was none", async (t) => {
  const { port, listener, asked } = await serve(t, () => {});
  const told: unknown[] = [];
  listener.server.on("clientError", (error: NodeJS.ErrnoException, socket: Socket) => {
    told.push(error.code);
    socket.end("HTTP/1.1 400 Bad Request\r\n\r\n");
  });
  const client = open(t, port, true);
  client.socket.end(post("body").slice(0, -1));
  await until(
    () => client.raw,
    (raw) => raw.startsWith("HTTP/1.1 400"),
  );
  assert.deepEqual(told, ["HPE_INVALID_EOF_STATE"]);
  // It was begun with its head, and is given up.
  await becomes(
    () => asked.map(({ request, closed }) => [request.isWhole, String(request.body), closed]),
    [[false, "bod", 1]],
  );
});

test("a request that was begun here goes to node:http from its first byte, with what it is told of it", async (t) => {
  const { port, asked, byNode } = await serve(
    t,
    (one) => String(one.request.body) === "1" && one.answer("here"),
  );
  const client = open(t, port);
  client.socket.write(post("1") + post("2") + post("3"));
  await becomes(() => asked.length, 2);
  const told: (string | undefined)[] = [];
  asked[1]?.passOn((req) => told.push(req.url));
  await becomes(() => byNode, ["/s/M 2", "/s/M 3"]);
  await until(
    () => client.raw,
    (raw) => raw.includes("node:3"),
  );
  assert.deepEqual(told, ["/s/M"]);
  assert.deepEqual(
    asked.map(({ closed }) => closed),
    [1, 0],
  );
});

test("who leaves while a request runs ends it, and nothing can be handed over", async (t) => {
  const { port, asked, listener } = await serve(t, () => {});
  const client = open(t, port);
  client.socket.write(post("1") + post("2"));
  await becomes(() => asked.length, 1);
  client.socket.resetAndDestroy();
  await becomes(() => [asked[0]?.closed, listener.connections, listener.http1Connections], [1, 0, 0]);
  assert.equal(asked[0]?.connection.canHandOver, false);
  asked[0]?.answer("to nobody");
  await new Promise((resolve) => setTimeout(resolve, 20));
  assert.deepEqual(
    asked.map(({ closed }) => closed),
    [1],
  );
});

test("who ends its side is answered in kind, and what it still asked for is not begun", async (t) => {
  const { port, asked } = await serve(t, () => {});
  const client = open(t, port, true);
  client.socket.end(post("1") + post("2"));
  await becomes(() => [client.hasEnded, asked.length, asked[0]?.closed], [true, 1, 1]);
});

test("a connection that rests for too long is closed", async (t) => {
  const { port, listener } = await serve(t, undefined, { keepAliveTimeoutMs: 20 });
  const client = open(t, port);
  client.socket.write(post("1"));
  await becomes(() => client.bodies, ["1"]);
  await becomes(() => [client.hasEnded, listener.connections], [true, 0]);
});

test("over TLS too; who says nothing after the handshake is told that its time is up", async (t) => {
  const { port, listener } = await serve(t, undefined, { tls: pem, headersTimeoutMs: 100 });
  const late: unknown[] = [];
  listener.server.on("clientError", (error: NodeJS.ErrnoException, socket: Socket) => {
    late.push(error.code);
    socket.destroy();
  });
  const connectTls = () => listen(t, tls.connect({ port, host: "127.0.0.1", rejectUnauthorized: false }));
  const [asks, silent] = [connectTls(), connectTls()];
  await Promise.all([once(asks.socket, "secureConnect"), once(silent.socket, "secureConnect")]);
  asks.socket.write(post("1"));
  await becomes(() => asks.bodies, ["1"]);
  await becomes(() => [late, listener.connections], [["ERR_HTTP_REQUEST_TIMEOUT"], 1]);
  asks.socket.write(post("2"));
  await becomes(() => asks.bodies, ["1", "2"]);
});

test("a listener that closes ends what rests, and answers what runs for the last time", async (t) => {
  const { port, asked, listener } = await serve(
    t,
    (one) => String(one.request.body) === "rest" && one.answer("ok"),
  );
  const [rests, runs] = [open(t, port), open(t, port)];
  rests.socket.write(post("rest"));
  runs.socket.write(post("run"));
  await becomes(() => [rests.bodies.length, asked.length], [1, 2]);
  const closed = listener.close();
  await becomes(() => rests.hasEnded, true);
  assert.equal(runs.hasEnded, false);
  runs.socket.write(post("never begun"));
  asked.find(({ request }) => String(request.body) === "run")?.answer("last");
  await closed;
  await becomes(() => runs.hasEnded, true);
  assert.match(runs.raw, /connection: close\r\n\r\nlast$/);
  assert.equal(asked.length, 2);
});

test("a listener that closes answers all that was asked before, the last of it for the last time", async (t) => {
  const { port, asked, listener } = await serve(t, () => {});
  const client = open(t, port);
  client.socket.write(post("1") + post("2"));
  await becomes(() => asked.length, 1);
  const closed = listener.close();
  client.socket.write(post("never begun"));
  await until(
    () => asked[0]?.connection.socket.bytesRead,
    (bytes) => bytes === client.socket.bytesWritten,
  );
  asked[0]?.answer("one");
  await becomes(() => asked.length, 2);
  asked[1]?.answer("two");
  await closed;
  await becomes(() => client.bodies, ["one", "two"]);
  assert.deepEqual(client.raw.match(/onnection: [a-z-]+/g), ["onnection: keep-alive", "onnection: close"]);
  assert.equal(asked.length, 2);
});

test("a listener that closes waits for what was handed over to node:http, but not for what is never asked", async (t) => {
  const { port, listener, byNode } = await serve(t);
  const [asks, half, holds] = [open(t, port), open(t, port), open(t, port)];
  for (const { socket } of [asks, half]) socket.write(post("first"));
  await becomes(() => [asks.bodies, half.bodies], [["first"], ["first"]]);
  holds.socket.write(post("late").slice(0, -1));
  const closed = listener.close();
  asks.socket.write("POST /s/M HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n");
  half.socket.write("POST /s/M HTTP/1.1\r\nho");
  // Longer than a connection has to ask.
  await new Promise((resolve) => setTimeout(resolve, 150));
  await becomes(() => half.hasEnded, true);
  asks.socket.write("4\r\nlate\r\n0\r\n\r\n");
  await until(
    () => asks.raw,
    (raw) => raw.includes("node:late"),
  );
  holds.socket.destroy();
  await closed;
  assert.deepEqual(byNode, ["/s/M late"]);
});

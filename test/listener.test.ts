import assert from "node:assert/strict";
import { once } from "node:events";
import http, { type IncomingMessage, type ServerResponse } from "node:http";
import http2, { type ClientHttp2Session } from "node:http2";
import https from "node:https";
import net, { type AddressInfo, type Socket } from "node:net";
import { Readable } from "node:stream";
import { buffer, text } from "node:stream/consumers";
import { type TestContext, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import tls from "node:tls";
import { isDeepStrictEqual } from "node:util";
import grpc from "@grpc/grpc-js";
import Fastify from "fastify";
import { createListener, type Listener } from "../src/listener.ts";
import type { ListenerOptions } from "../src/listener-options.ts";
import { listenerOptions } from "./harness/listener-options.ts";
import { pem } from "./harness/pem.ts";

const TLS = { tls: pem };
const MEGABYTE = 1024 * 1024;

type Handler = (req: IncomingMessage, res: ServerResponse) => void;

/** Answers what the server saw of the request, as JSON. */
const describe: Handler = (req, res) => {
  const { remoteAddress, remotePort } = req.socket;
  const encrypted = "encrypted" in req.socket && req.socket.encrypted === true;
  res.end(JSON.stringify({ version: req.httpVersion, encrypted, remoteAddress, remotePort }));
};

interface Started {
  listener: Listener;
  port: number;
  origin: string;
  /** The server's side of each connection, in the order of acceptance. */
  accepted: Socket[];
}

async function start(
  t: TestContext,
  handler: Handler,
  overrides: Partial<ListenerOptions> = {},
): Promise<Started> {
  const listener = createListener(listenerOptions(overrides), handler);
  const accepted: Socket[] = [];
  listener.server.prependListener("connection", (socket: Socket) => accepted.push(socket));
  listener.server.listen(0, "127.0.0.1");
  await once(listener.server, "listening");
  t.after(async () => {
    const closed = listener.close();
    listener.destroy();
    await closed;
  });
  const { port } = listener.server.address() as AddressInfo;
  return { listener, port, origin: `http://127.0.0.1:${port}`, accepted };
}

/** Waits for a state that no event announces, looking once per turn of the event loop. */
async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await new Promise((resolve) => setImmediate(resolve));
}

function connect(t: TestContext, port: number): Socket {
  const socket = net.connect({ port, host: "127.0.0.1", allowHalfOpen: true });
  socket.setNoDelay(true);
  socket.on("error", () => {}); // a reset is one of the ways in which a server closes
  t.after(() => socket.destroy());
  return socket;
}

function session(t: TestContext, origin: string, options: http2.SecureClientSessionOptions = {}) {
  const client = http2.connect(origin, { ca: pem.cert, ...options });
  client.on("error", () => {});
  t.after(() => client.destroy());
  return client;
}

/** All that the server sends until it closes or resets the connection; the client's side stays open. */
async function received(socket: Socket): Promise<Buffer> {
  const chunks: Buffer[] = [];
  socket.on("data", (chunk: Buffer) => chunks.push(chunk));
  const over = socket.closed || socket.readableEnded;
  if (!over) await Promise.race([once(socket, "end"), once(socket, "close")]);
  return Buffer.concat(chunks);
}

async function request2(client: ClientHttp2Session, headers: http2.OutgoingHttpHeaders = {}) {
  const stream = client.request({ ":path": "/", ...headers });
  const [response] = (await once(stream, "response")) as [http2.IncomingHttpHeaders];
  return { status: response[":status"], body: await text(stream) };
}

async function request1(module: typeof http | typeof https, options: https.RequestOptions, body?: Readable) {
  const outgoing = module.request({ host: "127.0.0.1", ca: pem.cert, ...options });
  outgoing.on("error", () => {}); // once it was answered, the rest of an upload may fail
  if (body === undefined) outgoing.end();
  else body.on("error", () => {}).pipe(outgoing);
  const [response] = (await once(outgoing, "response")) as [IncomingMessage];
  return { status: response.statusCode, headers: response.headers, body: await text(response) };
}

const FRAME = { DATA: 0, HEADERS: 1, RST_STREAM: 3, SETTINGS: 4, GOAWAY: 7, WINDOW_UPDATE: 8 };
const PREFACE = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
// HPACK, all from the static table but the authority: GET http://x/
const GET = Buffer.from([0x82, 0x86, 0x84, 0x41, 0x01, 0x78]);

function frame(type: number, flags: number, stream: number, payload: Uint8Array = Buffer.alloc(0)): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head[3] = type;
  head[4] = flags;
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}

function frames(bytes: Buffer) {
  const found: { type: number; stream: number; payload: Buffer }[] = [];
  for (let rest = bytes; rest.length >= 9; ) {
    const end = 9 + rest.readUIntBE(0, 3);
    found.push({ type: rest[3]!, stream: rest.readUInt32BE(5), payload: rest.subarray(9, end) });
    rest = rest.subarray(end);
  }
  return found;
}

function upload(bytes: number): Readable {
  const chunk = Buffer.alloc(64 * 1024, "a");
  return Readable.from(
    (function* () {
      for (let sent = 0; sent < bytes; sent += chunk.length) yield chunk;
    })(),
  );
}

function agent(t: TestContext, module: typeof http | typeof https = http): http.Agent {
  const keepAlive = new module.Agent({ keepAlive: true, maxSockets: 1 });
  t.after(() => keepAlive.destroy());
  return keepAlive;
}

/** `https.request` passes TLS options on, although its types do not say so of this one. */
const alpn = (...ALPNProtocols: string[]): https.RequestOptions =>
  Object.assign({ agent: false as const }, { ALPNProtocols });
const ALPN1 = alpn("http/1.1");
const protocols: {
  name: string;
  version: string;
  encrypted: boolean;
  call: (t: TestContext, port: number) => Promise<{ body: string }>;
}[] = [
  {
    name: "HTTP/1.1",
    version: "1.1",
    encrypted: false,
    call: (_t, port) => request1(http, { port, agent: false }),
  },
  {
    name: "HTTP/2 with prior knowledge",
    version: "2.0",
    encrypted: false,
    call: (t, port) => request2(session(t, `http://127.0.0.1:${port}`)),
  },
  {
    name: "HTTP/1.1 over TLS",
    version: "1.1",
    encrypted: true,
    call: (_t, port) => request1(https, { port, ...ALPN1 }),
  },
  {
    name: "HTTP/1.1 over TLS without ALPN",
    version: "1.1",
    encrypted: true,
    call: (_t, port) => request1(https, { port, ...alpn() }),
  },
  {
    name: "HTTP/2 over TLS",
    version: "2.0",
    encrypted: true,
    call: (t, port) => request2(session(t, `https://127.0.0.1:${port}`)),
  },
  {
    name: "HTTP/1.1 that offers to upgrade to h2c",
    version: "1.1",
    encrypted: false,
    call: (_t, port) => {
      const headers = { connection: "Upgrade, HTTP2-Settings", upgrade: "h2c", "http2-settings": "AAMAAABk" };
      return request1(http, { port, agent: false, headers });
    },
  },
];

for (const { name, version, encrypted, call } of protocols) {
  test(`${name} is served on the one port, with the peer's address`, async (t) => {
    const { port, accepted } = await start(t, describe, TLS);
    const { remotePort, ...seen } = JSON.parse((await call(t, port)).body);
    assert.deepEqual(seen, { version, encrypted, remoteAddress: "127.0.0.1" });
    assert.equal(typeof remotePort, "number");
    assert.equal(accepted.length, 1);
  });
}

for (const [name, credentials] of [
  ["plain text", grpc.credentials.createInsecure()],
  ["TLS", grpc.credentials.createSsl(Buffer.from(pem.cert))],
] as const) {
  test(`grpc-js is served over ${name}`, async (t) => {
    const { port } = await start(
      t,
      async (req, res) => {
        const body = await buffer(req);
        res.writeHead(200, { "content-type": "application/grpc" });
        res.addTrailers({ "grpc-status": "0" });
        res.end(body);
      },
      TLS,
    );
    const client = new grpc.Client(`localhost:${port}`, credentials, { "grpc.enable_http_proxy": 0 });
    t.after(() => client.close());
    const same = (bytes: Buffer) => bytes;
    const answer = await new Promise((resolve, reject) => {
      client.makeUnaryRequest("/echo.Echo/Echo", same, same, Buffer.from("hello"), (error, value) =>
        error ? reject(error) : resolve(value),
      );
    });
    assert.deepEqual(answer, Buffer.from("hello"));
  });
}

test("HTTP/1.1 connections are kept alive between requests", async (t) => {
  const { port, accepted } = await start(t, describe);
  const keepAlive = agent(t);
  const first = await request1(http, { port, agent: keepAlive });
  const second = await request1(http, { port, agent: keepAlive });
  assert.equal(first.body, second.body);
  assert.equal(accepted.length, 1);
});

test("a body that arrives with its headers is handed over whole", async (t) => {
  const { port } = await start(t, async (req, res) => {
    res.end(String((await buffer(req)).equals(body)));
  });
  const body = Buffer.alloc(3 * MEGABYTE, "0123456789abcdef!");
  const socket = connect(t, port);
  const head = `POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: ${body.length}\r\n\r\n`;
  socket.write(Buffer.concat([Buffer.from(head), body]));
  assert.match(String(await received(socket)), /\r\n\r\ntrue$/);
});

async function dripInto(t: TestContext, { port, accepted }: Started, bytes: Buffer): Promise<Socket> {
  const socket = connect(t, port);
  await until(() => accepted.length === 1);
  for (const [index, byte] of bytes.entries()) {
    socket.write(Buffer.of(byte));
    // Else the kernel may hand over several bytes at once.
    await until(() => accepted[0]!.bytesRead === index + 1);
  }
  return socket;
}

test("an HTTP/2 preface may arrive byte by byte", async (t) => {
  const started = await start(t, describe);
  const hello = Buffer.concat([Buffer.from(PREFACE), frame(FRAME.SETTINGS, 0, 0)]);
  const socket = await dripInto(t, started, hello);
  await until(() => started.listener.sessions === 1);
  const [bytes] = (await once(socket, "data")) as [Buffer];
  assert.equal(frames(bytes)[0]?.type, FRAME.SETTINGS);
});

test("an HTTP/1.1 request may arrive byte by byte", async (t) => {
  const started = await start(t, describe);
  const bytes = Buffer.from("PROPFIND / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
  const socket = await dripInto(t, started, bytes);
  assert.match(String(await received(socket)), /^HTTP\/1\.1 200 OK/);
});

for (const [request, status] of [
  ["PROPFIND / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", 200],
  ["PRX / HTTP/1.1\r\nhost: x\r\n\r\n", 400],
  ["GET / HTTP/1.1\r\nconnection: close\r\n\r\n", 400], // no host
  ["nonsense\r\n\r\n", 400],
  ["\0\xff\xfe\xfd", 400],
] as const) {
  test(`${JSON.stringify(request)} is HTTP/1.1 and answered ${status}`, async (t) => {
    const { port } = await start(t, describe, TLS);
    const socket = connect(t, port);
    socket.write(request, "latin1");
    assert.match(String(await received(socket)), new RegExp(`^HTTP/1\\.1 ${status} `));
    assert.equal((await request1(http, { port, agent: false })).status, 200);
  });
}

test("garbage after the preface ends that connection only", async (t) => {
  const { port, listener } = await start(t, describe);
  const socket = connect(t, port);
  socket.write(`PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n${"x".repeat(64)}`);
  await received(socket);
  await until(() => listener.sessions === 0 && listener.connections === 0);
  assert.equal((await request1(http, { port, agent: false })).status, 200);
});

test("a TLS handshake that fails ends that connection only", async (t) => {
  const { port, listener } = await start(t, describe, TLS);
  const socket = connect(t, port);
  socket.write(Buffer.concat([Buffer.from([0x16, 3, 1, 0, 64]), Buffer.alloc(64, 0xff)]));
  await received(socket);
  const stranger = tls.connect({ port, host: "127.0.0.1", ca: pem.cert, ALPNProtocols: ["smtp"] });
  await assert.rejects(once(stranger, "secureConnect"));
  await until(() => listener.connections === 0);
  assert.equal((await request1(https, { port, ...ALPN1 })).status, 200);
});

test("a TLS hello to a port without TLS is closed without an answer", async (t) => {
  const { port } = await start(t, describe);
  const client = tls.connect({ port, host: "127.0.0.1" });
  await assert.rejects(once(client, "secureConnect"), /ECONNRESET|disconnected/);
  const socket = connect(t, port);
  socket.write(Buffer.from([0x16, 3, 1]));
  assert.equal((await received(socket)).length, 0);
});

for (const [name, bytes] of [
  ["that says nothing", ""],
  ["that stops within the preface", "PRI * HT"],
  ["that stops within the TLS handshake", "\x16\x03\x01"],
] as const) {
  test(`a socket ${name} is closed after sniffTimeoutMs`, async (t) => {
    const { port, listener } = await start(t, describe, { ...TLS, sniffTimeoutMs: 30 });
    const socket = connect(t, port);
    socket.write(bytes, "latin1");
    await received(socket);
    await until(() => listener.connections === 0);
  });
}

for (const [name, bytes] of [
  ["before its protocol is known", "P"],
  ["within the TLS handshake", "\x16\x03\x01"],
  ["within an HTTP/1.1 request", "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n1"],
  ["within an HTTP/2 session", PREFACE],
] as const) {
  test(`a connection that is reset ${name} harms no other`, async (t) => {
    const { port, listener, accepted } = await start(t, describe, TLS);
    const socket = connect(t, port);
    socket.write(bytes, "latin1");
    await until(() => accepted[0]?.bytesRead === bytes.length);
    socket.resetAndDestroy();
    await until(() => listener.connections === 0 && listener.sessions === 0);
    assert.equal((await request1(http, { port, agent: false })).status, 200);
  });
}

test("a failure to accept is reported and ends nothing", async (t) => {
  const reported: Error[] = [];
  const { listener, port } = await start(t, describe, { onAcceptError: (error) => reported.push(error) });
  const failure = new Error("accept EMFILE");
  listener.server.emit("error", failure);
  assert.deepEqual(reported, [failure]);
  assert.equal((await request1(http, { port, agent: false })).status, 200);
});

test("headers that do not arrive in time are answered 408", async (t) => {
  const { port } = await start(t, describe, { headersTimeoutMs: 30 });
  const socket = connect(t, port);
  socket.write("GET / HTTP/1.1\r\nhost:");
  assert.match(String(await received(socket)), /^HTTP\/1\.1 408 /);
});

test("an HTTP/2 session that rests is told to go away and closed", async (t) => {
  const { port, listener } = await start(t, describe, { sessionIdleTimeoutMs: 30 });
  const socket = connect(t, port);
  socket.write(Buffer.concat([Buffer.from(PREFACE), frame(FRAME.SETTINGS, 0, 0)]));
  // The client does not close its side: the listener must not wait for it.
  const goaway = frames(await received(socket)).find(({ type }) => type === FRAME.GOAWAY);
  assert.equal(goaway?.payload.readUInt32BE(4), http2.constants.NGHTTP2_NO_ERROR);
  await until(() => listener.connections === 0 && listener.sessions === 0);
});

test("an HTTP/2 session does not rest while bytes come, though none go", async (t) => {
  const idleMs = 1500;
  const { port, listener } = await start(t, describe, { sessionIdleTimeoutMs: idleMs });
  const socket = connect(t, port);
  socket.write(Buffer.concat([Buffer.from(PREFACE), frame(FRAME.SETTINGS, 0, 0)]));
  await until(() => listener.sessions === 1);
  const endMs = performance.now() + 2.5 * idleMs;
  while (performance.now() < endMs) {
    socket.write(frame(FRAME.WINDOW_UPDATE, 0, 0, Buffer.from([0, 0, 0, 1])));
    await sleep(idleMs / 20);
  }
  assert.equal(listener.sessions, 1);
});

test("many streams of one HTTP/2 connection are begun some at a time: another's are begun between them", async (t) => {
  const begun: (number | undefined)[] = [];
  const many = 500;
  const request = (stream: number) => frame(FRAME.HEADERS, 5, stream, GET);
  const { port, listener } = await start(
    t,
    (req, res) => {
      // It comes while the first of many is begun.
      if (begun.length === 0) other.write(request(1));
      begun.push(req.socket.remotePort);
      res.end();
    },
    { maxStreamsPerConnection: many },
  );
  const [busy, other] = [connect(t, port), connect(t, port)];
  for (const socket of [busy, other]) {
    socket.write(Buffer.concat([Buffer.from(PREFACE), frame(FRAME.SETTINGS, 0, 0)]));
  }
  await until(() => listener.sessions === 2);
  busy.write(Buffer.concat(Array.from({ length: many }, (_, n) => request(2 * n + 1))));
  await until(() => begun.length === many + 1);
  const before = begun.indexOf(other.localPort);
  assert.ok(before < many / 2, `it waited for ${before} of ${many}`);
});

test("connections above maxConnections are closed", async (t) => {
  const { port } = await start(t, describe, { maxConnections: 1 });
  const keepAlive = agent(t);
  await request1(http, { port, agent: keepAlive });
  assert.equal((await received(connect(t, port))).length, 0);
  assert.equal((await request1(http, { port, agent: keepAlive })).status, 200);
});

test("HTTP/2 clients that close their side leave no session behind", async (t) => {
  const { port, listener } = await start(t, describe, TLS);
  const hello = Buffer.concat([Buffer.from(PREFACE), frame(FRAME.SETTINGS, 0, 0)]);
  const plain = connect(t, port);
  const secure = tls.connect({ port, host: "127.0.0.1", ca: pem.cert, ALPNProtocols: ["h2"] });
  t.after(() => secure.destroy());
  for (const socket of [plain, secure]) socket.write(hello);
  await until(() => listener.sessions === 2);
  for (const socket of [plain, secure]) socket.end();
  await until(() => listener.sessions === 0 && listener.connections === 0);
});

/** A handler that answers only when told to. */
function held() {
  const responses: ServerResponse[] = [];
  const handler: Handler = (_req, res) => responses.push(res);
  return { handler, responses };
}

test("close lets what runs finish, ends what rests and refuses what is new", async (t) => {
  const { handler, responses } = held();
  const { listener, port, origin } = await start(t, (req, res) =>
    req.url === "/idle" ? res.end() : handler(req, res),
  );
  const resting1 = agent(t);
  await request1(http, { port, path: "/idle", agent: resting1 });
  const resting2 = session(t, origin);
  await request2(resting2, { ":path": "/idle" });
  const running1 = request1(http, { port, agent: agent(t) });
  await until(() => responses.length === 1);
  const client2 = session(t, origin);
  const running2 = request2(client2);
  await until(() => responses.length === 2);
  const silent = connect(t, port);
  await until(() => listener.connections === 5);

  let ended = false;
  const closed = listener.close().then(() => {
    ended = true;
  });
  const [refusal] = await once(net.connect({ port, host: "127.0.0.1" }), "error");
  assert.equal(refusal.code, "ECONNREFUSED");
  if (!resting2.closed) await once(resting2, "close");
  await received(silent);
  await until(() => listener.connections === 2);
  assert.equal(ended, false);

  for (const res of responses) res.end("done");
  const [answer1, answer2] = await Promise.all([running1, running2]);
  assert.deepEqual([answer1.body, answer2.body], ["done", "done"]);
  assert.equal(answer1.headers.connection, "close");
  await closed;
  assert.deepEqual([listener.connections, listener.sessions], [0, 0]);
});

test("close ends an HTTP/1.1 connection whose running response had promised to keep it", async (t) => {
  const { handler, responses } = held();
  const { listener, port } = await start(t, handler);
  const socket = connect(t, port);
  socket.write("GET / HTTP/1.1\r\nhost: x\r\n\r\n");
  await until(() => responses.length === 1);
  responses[0]!.write("first");
  const answer = received(socket);
  const closed = listener.close();
  responses[0]!.end("last");
  await closed;
  assert.match(String(await answer), /keep-alive[\s\S]*first[\s\S]*last/);
});

test("close does not wait for a client that stops within its headers, or never asks", async (t) => {
  const { listener, port, accepted } = await start(t, describe, TLS);
  const half = connect(t, port);
  half.write("GET / HTTP/1.1\r\nho");
  const mute = tls.connect({ port, host: "127.0.0.1", ca: pem.cert, ALPNProtocols: ["http/1.1"] });
  mute.on("error", () => {});
  await once(mute, "secureConnect");
  await until(() => accepted.length === 2 && accepted.every((socket) => socket.bytesRead > 0));
  await listener.close();
});

test("destroy cuts what close waits for", async (t) => {
  const { handler, responses } = held();
  const { listener, port, origin } = await start(t, handler, TLS);
  const cut = [request1(http, { port, agent: false }), request1(https, { port, ...ALPN1 })].map((call) =>
    assert.rejects(call),
  );
  for (const client of [session(t, origin), session(t, `https://127.0.0.1:${port}`)]) {
    client.request({ ":path": "/" }).on("error", () => {});
    cut.push(once(client, "close").then(() => {}));
  }
  await until(() => responses.length === 4);
  const closed = listener.close();
  assert.deepEqual([listener.connections, listener.sessions], [4, 2]);
  listener.destroy();
  await Promise.all([closed, ...cut]);
  assert.deepEqual([listener.connections, listener.sessions], [0, 0]);
});

test("a flood of stream resets ends its connection, others are still served", async (t) => {
  const { port, origin, listener } = await start(t, describe, { streamResetBurst: 50, streamResetRate: 1 });
  const other = session(t, origin);
  await request2(other);
  const flood = connect(t, port);
  flood.write(Buffer.concat([Buffer.from(PREFACE), frame(FRAME.SETTINGS, 0, 0)]));
  for (let stream = 1; stream < 400; stream += 2) {
    flood.write(frame(FRAME.HEADERS, 4, stream, GET));
    flood.write(frame(FRAME.RST_STREAM, 0, stream, Buffer.from([0, 0, 0, 8])));
  }
  const types = frames(await received(flood)).map(({ type }) => type);
  assert.ok(types.includes(FRAME.GOAWAY));
  await until(() => listener.sessions === 1);
  assert.equal((await request2(other)).status, 200);
});

test("streams above maxStreamsPerConnection are refused, those below are not", async (t) => {
  const { handler, responses } = held();
  const { port } = await start(t, handler, { maxStreamsPerConnection: 2 });
  const socket = connect(t, port);
  socket.write(Buffer.concat([Buffer.from(PREFACE), frame(FRAME.SETTINGS, 0, 0)]));
  for (const stream of [1, 3, 5]) socket.write(frame(FRAME.HEADERS, 5, stream, GET));
  const bytes: Buffer[] = [];
  socket.on("data", (chunk: Buffer) => bytes.push(chunk));
  const resets = () => frames(Buffer.concat(bytes)).filter(({ type }) => type === FRAME.RST_STREAM);
  await until(() => resets().length > 0);
  assert.deepEqual(
    resets().map(({ stream, payload }) => [stream, payload.readUInt32BE(0)]),
    [[5, http2.constants.NGHTTP2_REFUSED_STREAM]],
  );
  assert.equal(responses.length, 2);
});

test("oversized headers are answered 431 on HTTP/1.1 and reset the stream on HTTP/2", async (t) => {
  const { port, origin } = await start(t, describe, { maxHeaderBytes: 4096 });
  const socket = connect(t, port);
  socket.write(`GET / HTTP/1.1\r\nhost: x\r\nlong: ${"x".repeat(8192)}\r\n\r\n`);
  assert.match(String(await received(socket)), /^HTTP\/1\.1 431 /);

  const client = session(t, origin);
  await once(client, "remoteSettings");
  assert.equal(client.remoteSettings.maxHeaderListSize, 4096);
  for (const headers of [{ long: "x".repeat(8192) }, { a: "x".repeat(3000), b: "y".repeat(3000) }]) {
    const stream = client.request({ ":path": "/", ...headers });
    const [error] = await once(stream, "error");
    assert.match(error.message, /ENHANCE_YOUR_CALM/);
  }
  assert.equal((await request2(client)).status, 200);
  assert.equal((await request1(http, { port, agent: false })).status, 200);
});

test("100 Continue is sent when the body is first read, and not before a refusal", async (t) => {
  const { port, origin } = await start(t, async (req, res) => {
    if (req.url === "/refuse") {
      res.statusCode = 401;
      res.end();
    } else res.end(await text(req));
  });
  const expect = { expect: "100-continue" };
  for (const path of ["/accept", "/refuse"]) {
    const headers = { ...expect, "content-length": 5 };
    const outgoing = http.request({ port, host: "127.0.0.1", path, method: "POST", headers, agent: false });
    outgoing.on("continue", () => outgoing.end("hello"));
    outgoing.flushHeaders();
    let continued = false;
    outgoing.on("continue", () => {
      continued = true;
    });
    const [response] = (await once(outgoing, "response")) as [IncomingMessage];
    assert.equal(response.statusCode, path === "/accept" ? 200 : 401);
    assert.equal(continued, path === "/accept");
    outgoing.destroy();

    const client = session(t, origin);
    const stream = client.request({ ":path": path, ":method": "POST", ...expect }, { endStream: false });
    let continued2 = false;
    stream.on("continue", () => {
      continued2 = true;
      stream.end("hello");
    });
    const [response2] = await once(stream, "response");
    assert.equal(response2[":status"], path === "/accept" ? 200 : 401);
    assert.equal(continued2, path === "/accept");
  }
});

const refuse: Handler = (_req, res) => res.writeHead(401).end("refused");
const stopReading: Handler = async (req, res) => {
  for await (const _chunk of req) break;
  res.writeHead(401).end("refused");
};

for (const [reader, handler] of Object.entries({ refuse, stopReading })) {
  for (const [name, module, options] of [
    ["of known length", http, { headers: { "content-length": 32 * MEGABYTE } }],
    ["in chunks", http, {}],
    ["over TLS", https, {}],
  ] as const) {
    test(`${reader}: an HTTP/1.1 upload ${name} is answered, as its connection's last, and not read`, async (t) => {
      const { port, accepted } = await start(t, handler, TLS);
      const call = { port, method: "POST", agent: agent(t, module), ...options };
      const { status, headers, body } = await request1(module, call, upload(32 * MEGABYTE));
      assert.deepEqual([status, body, headers.connection], [401, "refused", "close"]);
      await until(() => accepted[0]!.destroyed);
      assert.ok(accepted[0]!.bytesRead < MEGABYTE, `${accepted[0]!.bytesRead} bytes read`);
    });
  }

  test(`${reader}: an HTTP/2 upload is answered and not read, its connection lives on`, async (t) => {
    const { origin, accepted } = await start(t, handler);
    const client = session(t, origin);
    const stream = client.request({ ":path": "/", ":method": "POST" });
    upload(32 * MEGABYTE)
      .on("error", () => {})
      .pipe(stream);
    const [response] = await once(stream, "response");
    assert.equal(response[":status"], 401);
    assert.equal(await text(stream), "refused");
    if (!stream.closed) await once(stream, "close");
    assert.equal(stream.rstCode, http2.constants.NGHTTP2_NO_ERROR);
    assert.equal((await request2(client)).status, 401);
    assert.equal(accepted.length, 1);
    assert.ok(accepted[0]!.bytesRead < MEGABYTE, `${accepted[0]!.bytesRead} bytes read`);
  });
}

test("a small body that nobody reads does not cost the connection", async (t) => {
  const { port, accepted } = await start(t, refuse);
  const socket = connect(t, port);
  const post = `POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1024\r\n\r\n`;
  socket.write(post);
  await once(socket, "data"); // answered before the body was sent
  socket.write("x".repeat(1024) + post.replace("\r\n\r\n", "\r\nconnection: close\r\n\r\n"));
  assert.match(String(await received(socket)), /^HTTP\/1\.1 401/);
  assert.equal(accepted.length, 1);
});

test("a small body whose reader stops half-way does not cost the connection", async (t) => {
  const { port, accepted } = await start(t, stopReading);
  const socket = connect(t, port);
  const head = "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1024\r\n";
  for (let i = 0; i < 3; i++) {
    socket.write(`${head}\r\nfirst`);
    await once(socket, "data"); // answered before the rest was sent
    for (const size of [500, 519]) {
      const before = accepted[0]!.bytesRead;
      socket.write("x".repeat(size));
      await until(() => accepted[0]!.bytesRead === before + size);
    }
  }
  socket.write(`${head}connection: close\r\n\r\n${"x".repeat(1024)}`);
  assert.match(String(await received(socket)), /^HTTP\/1\.1 401/);
  assert.equal(accepted.length, 1);
});

for (const [reader, handler] of Object.entries({ refuse, stopReading })) {
  test(`${reader}: bodies that are not read to their end leave nothing on a connection that is kept`, async (t) => {
    const { port, accepted } = await start(t, handler);
    const socket = connect(t, port);
    const listeners = () => accepted[0]!.eventNames().map((name) => [name, accepted[0]!.listenerCount(name)]);
    const call = async () => {
      socket.write("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 8\r\n\r\nhalf");
      await once(socket, "data"); // answered before the rest was sent
      const before = accepted[0]!.bytesRead;
      socket.write("half");
      await until(() => accepted[0]!.bytesRead === before + 4);
    };
    await call();
    const atFirst = listeners();
    for (let i = 0; i < 20; i++) await call();
    await until(() => isDeepStrictEqual(listeners(), atFirst));
  });
}

for (const [name, rest] of [
  ["sends on", `${"x".repeat(56_000)}GET / HTTP/1.1\r\nhost: x\r\n\r\n`],
  ["stops", ""],
] as const) {
  test(`a refused HTTP/1.1 client that ${name} has time to take the answer, and reaches nobody`, async (t) => {
    let calls = 0;
    const handler: Handler = (req, res) => {
      calls++;
      refuse(req, res);
    };
    const { port, accepted, listener } = await start(t, handler, { lingerMs: 600_000 });
    listener.server.on("clientError", () => calls++);
    const socket = connect(t, port);
    // Too much to be worth reading, too little to be cut off.
    socket.write(`POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 66000\r\n\r\n${"x".repeat(10_000)}`);
    assert.match(String(await received(socket)), /^HTTP\/1\.1 401/);
    assert.equal(accepted[0]!.destroyed, false);
    socket.end(rest);
    await until(() => listener.connections === 0);
    assert.equal(calls, 1);
  });
}

test("an HTTP/2 body that was sent but not read keeps neither stream nor session", async (t) => {
  const { origin, listener, accepted } = await start(t, async (req, res) => {
    await once(req, "readable");
    // More than the request buffers: the rest waits in the stream.
    await until(() => accepted[0]!.bytesRead > 100_000);
    res.end("enough");
  });
  const client = session(t, origin);
  const stream = client.request({ ":path": "/", ":method": "POST" });
  stream.end(Buffer.alloc(100_000));
  assert.equal(await text(stream), "enough");
  await listener.close();
});

function fastify(t: TestContext) {
  let listener: Listener | undefined;
  const app = Fastify({
    serverFactory: (handler) => {
      listener = createListener(listenerOptions({}), handler);
      return listener.server;
    },
  });
  app.get("/", async () => "hello");
  t.after(() => app.close());
  return { app, listener: listener! };
}

test("Fastify serves both protocols through it and closes with connections open", async (t) => {
  const { app, listener } = fastify(t);
  const { responses, handler } = held();
  app.get("/held", (request, reply) => {
    reply.hijack();
    handler(request.raw, reply.raw);
  });
  const origin = await app.listen({ host: "127.0.0.1", port: 0 });
  const { port } = listener.server.address() as AddressInfo;
  const resting = session(t, origin);
  assert.equal((await request2(resting)).body, "hello");
  assert.equal((await request1(http, { port, agent: agent(t) })).body, "hello");
  const running = request2(session(t, origin), { ":path": "/held" });
  await until(() => responses.length === 1);
  const closed = app.close();
  await until(() => listener.connections === 1);
  responses[0]!.end("done");
  assert.equal((await running).body, "done");
  await closed;
  await until(() => listener.connections === 0 && listener.sessions === 0);
});

test("malformed requests get Fastify's own answer", async (t) => {
  const { app, listener } = fastify(t);
  await app.listen({ host: "127.0.0.1", port: 0 });
  const socket = connect(t, (listener.server.address() as AddressInfo).port);
  socket.write("nonsense\r\n\r\n");
  assert.match(String(await received(socket)), /^HTTP\/1\.1 400 [\s\S]*"Client Error"/);
});

test("a port that is taken rejects listen with EADDRINUSE", async (t) => {
  const { port } = await start(t, describe);
  const { app } = fastify(t);
  await assert.rejects(app.listen({ host: "127.0.0.1", port }), { code: "EADDRINUSE" });
});

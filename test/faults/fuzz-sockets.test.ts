/** Whatever comes over a socket, the server lives, answers, blames its caller and lets nobody in. */
import assert from "node:assert/strict";
import { type ClientHttp2Session, connect as connectHttp2 } from "node:http2";
import { after, before, test } from "node:test";
import { callHeaders, closed, flag, frame, frameType, headerBlock, openSocket, preface } from "./frames.ts";
import { mutate, pick, randomFrom, scale, seed } from "./fuzz.ts";
import { corpus, envelope, get, message, mutant, type Request, staffOnly } from "./requests.ts";
import { startTarget, type Target } from "./target.ts";
import { createUnknownToken } from "./tokens.ts";

let target: Target;
before(async () => {
  target = await startTarget();
});
after(async () => {
  if (target.callers !== undefined) target.callers.close();
});

/** Unimplemented, the caller's own deadline, and a stream both ways over HTTP/1.1. */
const blameless = new Set([501, 504, 505]);

/** What a bad request must never be told: that the server failed, or that it may. */
function judge(request: Request, status: number, answer: string): void {
  const shown = JSON.stringify({
    ...request,
    body: request.body.toString("latin1"),
    answer: answer.slice(0, 300),
  });
  assert.ok(
    status < 500 || blameless.has(status) || /cannot decode|parse|compress|premature|invalid/i.test(answer),
    `${status}: ${shown}`,
  );
  assert.doesNotMatch(answer, /internal error/, shown);
  if (request.path === staffOnly)
    assert.notEqual(status === 200 && answer.includes('"users"'), true, `let in: ${shown}`);
}

async function overHttp2(session: ClientHttp2Session, request: Request): Promise<string> {
  const { te: _, expect: __, ...headers } = request.headers;
  const stream = session.request({ ":method": request.verb, ":path": request.path, ...headers });
  const told: unknown[] = [];
  let status = 0;
  stream.on("response", (seen) => {
    status = Number(seen[":status"]);
    told.push(seen["grpc-status"], seen["grpc-message"]);
  });
  stream.on("trailers", (seen) => told.push(seen["grpc-status"], seen["grpc-message"]));
  stream.on("data", (chunk: Buffer) => told.push(chunk.toString("latin1")));
  stream.on("error", () => {}); // A stream that is reset has its answer.
  const over = new Promise((resolve) => stream.once("close", resolve));
  // A GET has ended with its headers.
  if (!stream.writableEnded) stream.end(request.body);
  await over;
  judge(request, status, told.join(" "));
  return `${status}`;
}

const inAll = { http2: 15_000 * scale, http1: 15_000 * scale, bytes: 400 * scale };

test("requests of every protocol, mutated, over HTTP/2: answered, or their stream is reset", async (t) => {
  const random = randomFrom(seed);
  const tokens = [target.token, ...Array.from({ length: 3 }, createUnknownToken)];
  const counts = new Map<string, number>();
  let left = inAll.http2;
  const work = async () => {
    let session = connectHttp2(target.url).on("error", () => {});
    while (left-- > 0) {
      if (session.closed || session.destroyed) session = connectHttp2(target.url).on("error", () => {});
      const request = mutant(random, tokens);
      const status = await overHttp2(session, request);
      counts.set(status, (counts.get(status) ?? 0) + 1);
    }
    session.close();
  };
  await Promise.all(Array.from({ length: 16 }, work));
  t.diagnostic(`${inAll.http2} cases, seed ${seed}; by status (0: reset): ${[...counts].join(" ")}`);
  assert.ok((counts.get("200") ?? 0) > inAll.http2 / 10 && (counts.get("0") ?? 0) < inAll.http2 / 2);
});

/** A request's bytes in HTTP/1.1. Its length is true: what follows it is the next request. */
function inHttp1({ verb, path, headers, body }: Request): Buffer {
  const { te: _, expect: __, ...rest } = headers;
  const lines = Object.entries(rest).map(([name, value]) => `${name}: ${value}\r\n`);
  const head = `${verb} ${path} HTTP/1.1\r\nhost: latchkey.test\r\n${lines.join("")}content-length: ${body.length}\r\n\r\n`;
  return Buffer.concat([Buffer.from(head, "latin1"), body]);
}

/** Sends bytes and reads until the server closes, or was silent for a while after our own end. */
async function exchange(bytes: Buffer): Promise<string> {
  const socket = openSocket(target.port, { allowHalfOpen: true });
  const chunks: Buffer[] = [];
  socket.on("data", (chunk: Buffer) => chunks.push(chunk));
  socket.on("end", () => socket.end());
  socket.setTimeout(20_000, () => socket.destroy(new Error("hangs")));
  let hung = false;
  socket.on("error", (error) => {
    hung ||= error.message === "hangs";
  });
  socket.write(bytes);
  await closed(socket);
  assert.equal(
    hung,
    false,
    `no answer and no end within 20 s: ${JSON.stringify(bytes.toString("latin1").slice(0, 2000))}`,
  );
  return Buffer.concat(chunks).toString("latin1");
}

const perConnection = 20;
const last = Buffer.from("GET /end HTTP/1.1\r\nhost: latchkey.test\r\nconnection: close\r\n\r\n");

test("requests of every protocol, mutated and pipelined over HTTP/1.1: each is answered, in turn", async (t) => {
  const random = randomFrom(seed + 1);
  const tokens = [target.token, ...Array.from({ length: 3 }, createUnknownToken)];
  let connections = inAll.http1 / perConnection;
  let answers = 0;
  const work = async () => {
    while (connections-- > 0) {
      const requests = Array.from({ length: perConnection }, () => mutant(random, tokens));
      const answer = await exchange(Buffer.concat([...requests.map(inHttp1), last]));
      const statuses = [...answer.matchAll(/HTTP\/1\.1 (\d{3}) /g)].map(([, status]) => Number(status));
      answers += statuses.length;
      const first = requests[0];
      assert.ok(first !== undefined && statuses.length > 0, "no answer");
      assert.doesNotMatch(answer, /internal error/);
      assert.ok(
        statuses.every((status) => status < 500 || blameless.has(status)) ||
          /cannot decode|parse|compress|premature/i.test(answer),
        answer.slice(0, 2000),
      );
      assert.ok(!/"users":\[/.test(answer), "let in");
    }
  };
  await Promise.all(Array.from({ length: 8 }, work));
  t.diagnostic(
    `${inAll.http1} cases on ${inAll.http1 / perConnection} connections, ${answers} answers, seed ${seed}`,
  );
  // A request that is no HTTP ends its connection, and with it those behind it.
  assert.ok(answers > inAll.http1 / 2);
});

const openings = [
  Buffer.concat([
    preface,
    frame(frameType.headers, flag.endHeaders, 1, callHeaders()),
    frame(frameType.data, flag.endStream, 1, envelope(0, message)),
    frame(
      frameType.headers,
      flag.endHeaders | flag.endStream,
      3,
      headerBlock([
        [":method", "GET"],
        [":path", "/"],
      ]),
    ),
    frame(frameType.ping, 0, 0, Buffer.alloc(8)),
    frame(frameType.windowUpdate, 0, 0, Buffer.from([0, 0, 1, 0])),
    frame(frameType.goaway, 0, 0, Buffer.alloc(8)),
  ]).toString("latin1"),
  `${inHttp1(corpus[6] as Request).toString("latin1")}${last}`,
  `POST ${get} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\ncontent-type: application/json\r\n\r\n2\r\n{}\r\n0\r\n\r\n${last}`,
  "\x16\x03\x01\x00\x05hello",
];

test("bytes of no protocol, or almost of one: the connection is answered or ended, and others are served", async (t) => {
  const random = randomFrom(seed + 2);
  const before = target.sample();
  target.callers.resume();
  let left = inAll.bytes;
  const work = async () => {
    while (left-- > 0) {
      const socket = openSocket(target.port);
      // Its end, rather than its silence: what is left to come would be waited for.
      socket.end(Buffer.from(mutate(random, pick(random, openings), openings), "latin1"));
      await closed(socket);
    }
  };
  await Promise.all(Array.from({ length: 32 }, work));
  await target.callers.callMore(20);
  target.callers.pause();
  const { calls, errors, p99Ms } = target.callers.report();
  const now = target.sample();
  t.diagnostic(
    `${inAll.bytes} connections, seed ${seed}; others: ${calls} calls, ${errors.length} failed, p99 ${p99Ms} ms; ` +
      `RSS ${before?.rssMiB} → ${now?.rssMiB} MiB, connections ${before?.connections} → ${now?.connections}`,
  );
  assert.deepEqual(errors, []);
});

test("after all of it the server answers, nothing is left open, nothing went uncaught, and it stops by itself", async (t) => {
  await target.settle();
  await target.stop(t);
});

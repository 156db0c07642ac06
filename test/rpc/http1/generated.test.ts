/** Streams of HTTP/1.1 requests without end, valid, odd and broken, cut anywhere: with and without the lean path the same comes back. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { frame } from "../equality/calls.ts";
import { chunks, cutAt, json, Maker, path } from "./bytes.ts";
import { inParallel, type Step, startTwins, type Twins } from "./twins.ts";

/** HTTP1_SEED=random takes another, HTTP1_RUNS more of them; HTTP1_CASE=17 only that one. */
const seed =
  process.env.HTTP1_SEED === "random"
    ? Math.floor(Math.random() * 2 ** 31)
    : Number(process.env.HTTP1_SEED ?? 11);
const runs = Number(process.env.HTTP1_RUNS ?? 600);
const only = process.env.HTTP1_CASE === undefined ? undefined : Number(process.env.HTTP1_CASE);

let twins: Twins;
before(async () => {
  twins = await startTwins({ maxHeaderBytes: 4096 });
});
after(() => twins.pair.close());

/** Numbers that look random, the same ones for the same seed (mulberry32). */
class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = seed;
  }

  /** Of 0 up to, and without, `below`. */
  number(below: number): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0;
    let t = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 2 ** 32) * below);
  }

  chance(percent: number): boolean {
    return this.number(100) < percent;
  }

  of<T>(all: readonly T[]): T {
    return all[this.number(all.length)] as T;
  }

  some<T>(all: readonly T[], most: number): T[] {
    return Array.from({ length: this.number(most + 1) }, () => this.of(all));
  }
}

const texts = [
  "hello",
  "",
  "all: echo later",
  "all: throw NotFound",
  "late: headers",
  "nothing: echo",
  "ünï",
  "l".repeat(3000),
];
const methods = ["Call", "Get", "Public", "Known", "Missing", "None"];

/** Lines that change nothing about where a request ends. */
const harmless = [
  ...[
    "X-One: 1",
    "X-Two:2",
    "x-three:   3  ",
    "X-Empty:",
    "X-Latin: \xe9",
    "Accept: */*",
    "Cookie: a=1",
    "TE: trailers",
  ],
  ...[
    "Accept-Encoding: gzip",
    "Connect-Protocol-Version: 1",
    "Connect-Timeout-Ms: 20000",
    "X-Request-Id: mine",
  ],
  ...[
    "X-Api-Key: nonsense",
    "Authorization: Bearer nonsense",
    "Connection: keep-alive",
    "Origin: https://a.example",
  ],
  ...["Content-Encoding: identity", "Referer: /", "X-Forwarded-For: 203.0.113.7", "Keep-Alive: timeout=5"],
];
/** Lines after which a connection may end, or the request be refused as a whole. */
const odd = [
  ...[
    "Connection: close",
    "Connection: Upgrade",
    "Upgrade: h2c",
    "Expect: 100-continue",
    "Expect: x",
    "Host: evil.test",
  ],
  ...[
    "Content-Length: 5",
    "Content-Length: 05",
    "Transfer-Encoding: chunked",
    "Transfer-Encoding: identity",
    "No colon",
  ],
  ...[
    "X-Control: a\x01b",
    "X Blank: 1",
    "X-Blank : 1",
    "X-Folded: a\r\n b",
    "X-Lf: a\nX-Lf-Two: b",
    ": empty",
    " X-Space: 1",
  ],
  ...[
    "Content-Length: 5, 5",
    "X-Nul: \0",
    `X-Long: ${"l".repeat(5000)}`,
    "Content-Encoding: gzip",
    "Connection: x, close",
  ],
];

function valid(random: Random, m: Maker, mayBeText = true): Buffer {
  const method = random.of(methods);
  const fields = random.some(harmless, 3);
  const text = random.of(texts);
  const isDenied = method === "Known" || fields.some((line) => line.includes("nonsense"));
  const kind = random.number(20);
  if (kind === 0) return m.head({ fields });
  if (kind === 1) return m.head({ method: random.of(["HEAD", "OPTIONS"]), path: path(method), fields });
  // Of what is refused with its head, what has come of the chunks by then decides whether the connection is kept.
  if (kind < 5 && !isDenied && method !== "None") {
    return m.chunked({ path: path(method), fields }, chunks(...(json(text).match(/.{1,40}/gsu) ?? [])));
  }
  if (kind < 9) return m.get({ message: json(text), fields });
  const framed = frame(Buffer.from(json(text)));
  if (kind < 12) {
    const isText = mayBeText && random.chance(50);
    const type = `application/grpc-web${isText ? "-text" : ""}+json`;
    return m.post({ path: path(method), type, fields, body: isText ? framed.toString("base64") : framed });
  }
  if (kind === 12)
    return m.post({ path: path("Down"), type: "application/connect+json", fields, body: framed });
  return m.post({
    path: path(method),
    fields,
    body: random.chance(85) ? json(text) : random.of(["", "{", "null", "[]"]),
  });
}

const badLengths = ["+16", "16 ", "0x10", "-1", "016", "15", "17", "", "99999"];
const badLines = [
  ...["GET / HTTP/1.0", "POST /test.equality.Echo/Call HTTP/1.0", "post /test.equality.Echo/Call HTTP/1.1"],
  ...["POST * HTTP/1.1", "POST  /test.equality.Echo/Call HTTP/1.1", "POST /test.equality.Echo/Call HTTP/2.0"],
  ...["POST http://other.test/test.equality.Echo/Call HTTP/1.1", "POST /test.equality.Echo/Call#f HTTP/1.1"],
  ...["garbage", "GET /healthz"],
];
const extras = ["", "\r\n", "\n", " ", "\0", "x", ":", "\t"];

/** A request that one thing is wrong with, or may be. */
function broken(random: Random, m: Maker): Buffer {
  const fields = [...random.some(harmless, 2), random.of(odd)];
  const kind = random.number(6);
  if (kind === 0) return m.get({ fields });
  if (kind === 1) return m.post({ path: path(random.of(methods)), fields });
  if (kind === 2) return m.post({ length: random.of(badLengths) });
  if (kind === 3) return m.post({ line: random.of(badLines) });
  // Text that is no base64 is refused as soon as it comes by Connect's handlers, when it is whole by the lean path.
  const bytes = Buffer.from(valid(random, m, false));
  if (kind === 4) {
    for (let i = random.number(3); i >= 0; i--) bytes[random.number(bytes.length)] = random.number(256);
    return bytes;
  }
  const at = random.number(bytes.length);
  const drop = random.chance(50) ? random.number(4) : 0;
  return Buffer.concat([bytes.subarray(0, at), Buffer.from(random.of(extras)), bytes.subarray(at + drop)]);
}

/** Up to eight requests in packets that are cut anywhere; what may be broken is the last but one, in a packet of its own. */
function steps(random: Random, m: Maker): Step[] {
  const all: Step[] = [];
  // Where a broken one is a shorter one and garbage, it may be answered before it is ended.
  const unsure = new Maker("unsure");
  let packet: Buffer[] = [];
  const flush = () => {
    const bytes = Buffer.concat(packet);
    packet = [];
    if (bytes.length === 0) return;
    const points = random.some(
      Array.from({ length: bytes.length - 1 }, (_, i) => i + 1),
      random.of([0, 0, 1, 2, 6]),
    );
    all.push(...cutAt(bytes, ...[...new Set(points)].sort((a, b) => a - b)));
  };
  let answers = 0;
  for (let left = 1 + random.number(8); left > 0; left--) {
    if (random.chance(15)) {
      flush();
      // In one piece: a client that still writes when it is refused may lose the answer.
      all.push(answers, broken(random, unsure));
      // Whatever has become of the connection.
      all.push("settle", m.post(), "settle");
      return all;
    }
    answers++;
    packet.push(valid(random, m));
    if (random.chance(8)) packet.push(Buffer.from("\r\n"));
    if (random.chance(35)) flush();
  }
  flush();
  all.push(answers);
  return all;
}

test("generated streams of requests, cut and broken", { timeout: 600_000 }, async (t) => {
  t.diagnostic(`HTTP1_SEED=${seed}`);
  const failures: Error[] = [];
  const answers = new Map<number, number>();
  const cases = only === undefined ? Array.from({ length: runs }, (_, i) => i) : [only];
  await inParallel(cases, async (i) => {
    const what = `generated, HTTP1_SEED=${seed} HTTP1_CASE=${i}`;
    try {
      const { seen } = await twins.compare(what, (m) => steps(new Random(seed * 100_003 + i), m), {
        mayAnswer: 1,
        areMarked: true,
      });
      for (const { status } of seen.at(-1)?.came ?? []) answers.set(status, (answers.get(status) ?? 0) + 1);
    } catch (error) {
      failures.push(error as Error);
    }
  });
  t.diagnostic(`answers by status: ${JSON.stringify([...answers].sort(([a], [b]) => a - b))}`);
  const [first, ...others] = failures;
  if (first === undefined) return;
  first.message += others.map(({ message }) => `\nand also: ${message.split("\n", 1)[0]}`).join("");
  throw first;
});

test("both log the same of all of it", async () => {
  const rows = await twins.pair.compareRows();
  assert.ok(only !== undefined || rows > runs / 2, `${rows} connections' requests were logged`);
});

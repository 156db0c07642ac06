/** Streams of HTTP/1.1 requests without end, valid, odd and broken, cut anywhere: with and without the lean path the same comes back. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { frame } from "../equality/calls.ts";
import { chunks, cutAt, json, Maker, type Parts, path } from "./bytes.ts";
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

interface Made {
  readonly bytes: Buffer;
  /** It may end the connection, or be taken for less or more than its bytes: what follows is not to be in its packet. */
  readonly mayEnd: boolean;
}

function valid(random: Random, m: Maker): Made {
  const method = random.of(methods);
  const fields = random.some(harmless, 3);
  const text = random.of(texts);
  const isRefusedByHead =
    method === "Known" || /nonsense|connect-timeout-ms.*connect-timeout-ms/is.test(fields.join("\r\n"));
  const kind = random.number(20);
  if (kind === 0) return { bytes: m.head({ fields }), mayEnd: false };
  if (kind === 1)
    return {
      bytes: m.head({ method: random.of(["HEAD", "OPTIONS"]), path: path(method), fields }),
      mayEnd: false,
    };
  // Of what is refused with its head, what has come of the chunks by then decides whether the connection is kept.
  if (kind < 5 && !isRefusedByHead && method !== "None") {
    const pieces = json(text).match(/.{1,40}/gsu) ?? [];
    return { bytes: m.chunked({ path: path(method), fields }, chunks(...pieces)), mayEnd: false };
  }
  if (kind < 9) return { bytes: m.get({ message: json(text), fields }), mayEnd: false };
  if (kind < 12) {
    const bytes = frame(Buffer.from(json(text)));
    const isText = random.chance(50);
    const body = isText ? bytes.toString("base64") : bytes;
    return {
      bytes: m.post({
        path: path(method),
        type: `application/grpc-web${isText ? "-text" : ""}+json`,
        fields,
        body,
      }),
      mayEnd: false,
    };
  }
  if (kind === 12) {
    const body = frame(Buffer.from(json(text)));
    return {
      bytes: m.post({ path: path("Down"), type: "application/connect+json", fields, body }),
      mayEnd: false,
    };
  }
  const parts: Parts = {
    path: path(method),
    fields,
    body: random.chance(85) ? json(text) : random.of(["", "{", "null", "[]"]),
  };
  return { bytes: m.post(parts), mayEnd: false };
}

/** A request that one thing is wrong with, or may be. */
function broken(random: Random, m: Maker): Made {
  const fields = [...random.some(harmless, 2), random.of(odd)];
  switch (random.number(6)) {
    case 0:
      return { bytes: m.get({ fields }), mayEnd: true };
    case 1:
      return {
        bytes: m.post({ length: random.of(["+16", "16 ", "0x10", "-1", "016", "15", "17", "", "99999"]) }),
        mayEnd: true,
      };
    case 2: {
      const line = random.of([
        ...[
          "GET / HTTP/1.0",
          "POST /test.equality.Echo/Call HTTP/1.0",
          "post /test.equality.Echo/Call HTTP/1.1",
          "GET /healthz",
        ],
        ...[
          "POST * HTTP/1.1",
          "POST  /test.equality.Echo/Call HTTP/1.1",
          "POST /test.equality.Echo/Call HTTP/2.0",
          "garbage",
        ],
        ...[
          "POST http://other.test/test.equality.Echo/Call HTTP/1.1",
          "POST /test.equality.Echo/Call#f HTTP/1.1",
        ],
      ]);
      return { bytes: m.post({ line }), mayEnd: true };
    }
    case 3: {
      const bytes = Buffer.from(valid(random, m).bytes);
      for (let i = random.number(3); i >= 0; i--) bytes[random.number(bytes.length)] = random.number(256);
      return { bytes, mayEnd: true };
    }
    case 4: {
      const { bytes } = valid(random, m);
      const at = random.number(bytes.length);
      const drop = random.chance(50) ? random.number(4) : 0;
      const extra = Buffer.from(random.of(["", "\r\n", "\n", " ", "\0", "x", ":", "\t"]), "latin1");
      return {
        bytes: Buffer.concat([bytes.subarray(0, at), extra, bytes.subarray(at + drop)]),
        mayEnd: true,
      };
    }
    default:
      return { bytes: m.post({ path: path(random.of(methods)), fields }), mayEnd: true };
  }
}

/** Up to eight requests: what is valid in packets cut anywhere, and on its own what may be broken. */
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
  for (let left = 1 + random.number(8); left > 0; left--) {
    const { bytes, mayEnd } = random.chance(15) ? broken(random, unsure) : valid(random, m);
    if (!mayEnd) {
      packet.push(bytes);
      if (random.chance(8)) packet.push(Buffer.from("\r\n"));
      if (random.chance(35)) flush();
      continue;
    }
    flush();
    all.push("settle");
    packet.push(bytes);
    flush();
    all.push("settle");
  }
  flush();
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

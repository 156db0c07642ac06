/** Requests without end, valid, odd and broken: the lean unary path answers and logs each as stock Connect does. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { gzipSync } from "node:zlib";
import fc from "fast-check";
import { secretKey } from "../harness/server.ts";
import { ask, behaviourNames } from "./equality/behaviours.ts";
import {
  build,
  encode,
  enveloped,
  frame,
  type Init,
  inText,
  type Protocol,
  protocols,
} from "./equality/calls.ts";
import { interceptions } from "./equality/mount.ts";
import { type Pair, startPair } from "./equality/pair.ts";
import type { Fields, Request } from "./equality/wire.ts";

/** EQUALITY_SEED=random takes another, EQUALITY_RUNS more of them. */
const seed =
  process.env.EQUALITY_SEED === "random"
    ? Math.floor(Math.random() * 2 ** 31)
    : Number(process.env.EQUALITY_SEED ?? 5);
const numRuns = Number(process.env.EQUALITY_RUNS ?? 3000);

let straight: Pair;
/** With a hook of Fastify's, here that for CORS, requests come in another way. */
let hooked: Pair;
before(async () => {
  straight = await startPair();
  hooked = await startPair({ corsOrigins: ["https://app.example.com"] });
});
after(() => Promise.all([straight.close(), hooked.close()]));

const unicode = fc.string({ unit: "binary", maxLength: 40 });
/** What a header's value may hold: node's own client sends nothing else. */
const headerText = fc
  .string({
    unit: fc.mapToConstant(
      { num: 95, build: (n) => String.fromCharCode(32 + n) },
      { num: 128, build: (n) => String.fromCharCode(128 + n) },
    ),
    maxLength: 30,
  })
  .map((text) => text.trim());
const text = fc.oneof(
  {
    weight: 5,
    arbitrary: fc
      .tuple(fc.constantFrom(...behaviourNames), fc.constantFrom("all", "late", "nothing" as const))
      .map(([name, look]) => ask(name, look as "all")),
  },
  { weight: 2, arbitrary: unicode },
);

const message: fc.Arbitrary<Init> = fc.record(
  {
    text,
    big: fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
    data: fc.uint8Array({ maxLength: 50 }),
    real: fc.double(),
    flag: fc.boolean(),
    list: fc.array(fc.oneof(unicode, fc.constantFrom(...interceptions)), { maxLength: 3 }),
    counts: fc.dictionary(unicode, fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 }), { maxKeys: 3 }),
    kind: fc.constantFrom(0, 1, 99),
    maybe: fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 }),
  },
  { requiredKeys: [] },
) as fc.Arbitrary<Init>;

const known: Readonly<Record<string, readonly string[]>> = {
  accept: ["*/*"],
  "accept-encoding": ["gzip", "br", "identity", "gzip, br", "snappy", "*"],
  authorization: ["Bearer x", `Bearer ${secretKey}`, "Basic YTpi", "Bearer", ""],
  "connect-accept-encoding": ["gzip"],
  "connect-protocol-version": ["1", "2"],
  "connect-timeout-ms": ["20000", "0", "-1", "abc", "9999999999", "10000000000"],
  "content-encoding": ["gzip", "identity", "br", "snappy", ""],
  "content-type": [
    "application/grpc",
    "application/grpc+json",
    "application/grpc-web",
    "application/grpc-web-text",
    "application/json",
    "application/json; charset=utf-8",
    "application/proto",
    "application/connect+json",
    "text/plain",
  ],
  cookie: ["a=1", "b=2; c=3"],
  expect: ["100-continue"],
  "grpc-accept-encoding": ["gzip", "identity", "br,gzip", "snappy"],
  "grpc-encoding": ["gzip", "identity", "br", "snappy", ""],
  "grpc-timeout": ["20S", "0S", "1", "99999999H", "abc", "60000m"],
  origin: ["https://app.example.com", "https://evil.example.com", "null"],
  "user-agent": ["other/1"],
  "x-api-key": ["nonsense", secretKey, "lk_0000000000000000000000000000000000000000", ""],
  "x-custom-bin": ["AQID", "AQ==", "AQ", "!!!"],
  "x-forwarded-for": ["203.0.113.7"],
  "x-grpc-web": ["1"],
  "x-request-id": ["mine", "not mine", ""],
  "x-user-agent": ["grpc-web-javascript/0.1"],
};
const knownField = fc
  .constantFrom(...Object.keys(known))
  .chain((name) =>
    fc
      .oneof(
        { weight: 4, arbitrary: fc.constantFrom(...(known[name] ?? [""])) },
        { weight: 1, arbitrary: headerText },
      )
      .map((value): [string, string] => [name, value]),
  );
const ownField = fc.tuple(fc.stringMatching(/^x-[a-z0-9!#$%&'*+.^_`|~-]{1,12}$/), headerText);
const headers = fc.array(fc.oneof({ weight: 3, arbitrary: knownField }, { weight: 1, arbitrary: ownField }), {
  maxLength: 4,
});

/** A change to the bytes of a body, before they are text or cut into pieces. */
const damage: fc.Arbitrary<(bytes: Buffer) => Buffer> = fc.oneof(
  { weight: 6, arbitrary: fc.constant((bytes: Buffer) => bytes) },
  fc.nat(60).map((keep) => (bytes: Buffer) => bytes.subarray(0, Math.min(keep, bytes.length))),
  fc
    .uint8Array({ minLength: 1, maxLength: 12 })
    .map((more) => (bytes: Buffer) => Buffer.concat([bytes, more])),
  fc.tuple(fc.nat(40), fc.nat(255)).map(([at, value]) => (bytes: Buffer) => {
    const changed = Buffer.from(bytes);
    if (changed.length > 0) changed[at % changed.length] = value;
    return changed;
  }),
  fc.constant((bytes: Buffer) => Buffer.concat([bytes, bytes])),
  fc.constant((bytes: Buffer) => gzipSync(bytes)),
);
const cuts = fc.array(fc.nat(80), { maxLength: 3 });

interface Made {
  hooked: boolean;
  protocol: Protocol;
  service: "Echo" | "Intercepted" | "Configured";
  method: string;
  message: Init;
  headers: Fields;
  verb: string | undefined;
  flags: number;
  lengthOff: number;
  damage: (bytes: Buffer) => Buffer;
  cuts: number[];
  framing: "length" | "chunked";
  query: string;
}

const made: fc.Arbitrary<Made> = fc.record({
  hooked: fc.boolean(),
  protocol: fc.constantFrom(...protocols),
  service: fc.oneof(
    { weight: 4, arbitrary: fc.constant("Echo" as const) },
    fc.constantFrom("Intercepted" as const, "Configured" as const),
  ),
  method: fc.oneof(
    { weight: 4, arbitrary: fc.constant("Get") },
    fc.constantFrom("Call", "Public", "Known", "Staff", "Missing", "Down", "None"),
  ),
  message,
  headers,
  verb: fc.option(fc.constantFrom("GET", "POST", "PUT", "HEAD", "OPTIONS"), { nil: undefined, freq: 12 }),
  flags: fc.oneof({ weight: 8, arbitrary: fc.constant(0) }, fc.nat(255)),
  lengthOff: fc.oneof({ weight: 8, arbitrary: fc.constant(0) }, fc.integer({ min: -8, max: 70_000 })),
  damage,
  cuts,
  framing: fc.constantFrom("length", "length", "chunked"),
  query: fc.oneof({ weight: 6, arbitrary: fc.constant("") }, fc.webQueryParameters()),
});

function requestOf(all: Made): Request {
  const { protocol } = all;
  const plain = build(protocol, {
    service: all.service,
    method: all.method,
    message: all.message,
    headers: all.headers,
  });
  const path =
    all.query === "" ? plain.path : `${plain.path}${plain.path.includes("?") ? "&" : "?"}${all.query}`;
  const request = { ...plain, path, method: all.verb ?? plain.method };
  if (plain.body === undefined) return request;
  const bytes = encode(protocol, all.message);
  const body = enveloped(protocol)
    ? inText(protocol.kind, all.damage(frame(bytes, all.flags, Math.max(0, bytes.length + all.lengthOff))))
    : all.damage(bytes);
  const points = [0, ...all.cuts.map((at) => at % (body.length + 1)).sort((a, b) => a - b), body.length];
  const pieces = points.slice(1).map((end, i) => body.subarray(points[i], end));
  // A GET over HTTP/2 has ended with its headers.
  if (protocol.version === "2" && /^(GET|HEAD)$/.test(request.method))
    return { ...request, body: undefined as never };
  return { ...request, framing: all.framing, body: pieces };
}

/** What a handler does that no two servers could do at the same moment, or that breaks its connection. */
const unfit = /connection headers|metadata of the protocol|headers of the protocol|headers too late/;

test("generated requests, one after the other", { timeout: 600_000 }, async (t) => {
  let count = 0;
  await fc.assert(
    fc.asyncProperty(made, async (all) => {
      fc.pre(!unfit.test(all.message.text ?? ""));
      count++;
      await (all.hooked ? hooked : straight).compare(requestOf(all), `generated ${count}`);
    }),
    { seed, numRuns },
  );
  t.diagnostic(`${count} requests, seed ${seed}`);
});

test("both log the same of all of it", async () => {
  const rows = (await straight.compareRows()) + (await hooked.compareRows());
  assert.ok(rows > numRuns / 6, `${rows} requests were logged`);
});

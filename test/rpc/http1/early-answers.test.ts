/** A request that is answered before its body has come, or whose body is nothing that is read, costs its HTTP/1.1 connection no more with the lean path than without it. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { brotliCompressSync, gzipSync } from "node:zlib";
import { frame } from "../equality/calls.ts";
import { maxMessageBytes } from "../equality/pair.ts";
import { cutAt, json, type Maker, type Parts, path } from "./bytes.ts";
import { type Step, type Steps, startTwins, type Twins } from "./twins.ts";

let twins: Twins;
before(async () => {
  twins = await startTwins();
});
after(() => twins.pair.close());

const one = Buffer.concat;
const known = path("Known");
const denied: Record<string, Parts> = {
  "without a key": { path: known },
  "with a bad key": { fields: ["X-Api-Key: nonsense"] },
  "with a key that nobody has": { fields: [`Authorization: Bearer lk_${"0".repeat(38)}`] },
  "not being staff": { path: path("Staff") },
};

/** The head, then the body in so many pieces, then another request; between them, it is waited. */
const slowly =
  (parts: Parts, pieces: number): Steps =>
  (m) => {
    const bytes = m.post(parts);
    const at = bytes.indexOf("\r\n\r\n") + 4;
    const size = Math.ceil((bytes.length - at) / pieces);
    const points = Array.from({ length: pieces }, (_, i) => at + i * size).filter(
      (each) => each < bytes.length,
    );
    return [...cutAt(bytes, ...points).flatMap((piece): Step[] => [piece, "settle"]), m.post()];
  };

for (const [what, parts] of Object.entries(denied)) {
  test(`a denied request whose body comes later, ${what}`, () =>
    twins.compareAll(`denied ${what}`, {
      "a small body": ["401 200", slowly(parts, 1)],
      "a small body in pieces": ["401 200", slowly(parts, 3)],
      "no body": ["401 200", slowly({ ...parts, body: "" }, 1)],
      "a body of 60 KiB": ["401 200", slowly({ ...parts, body: json("l".repeat(60_000)) }, 4)],
      "a body of just 64 KiB": ["401 200", slowly({ ...parts, body: Buffer.alloc(65_536, " ") }, 2)],
      "a body of a byte more": ["401 closed", slowly({ ...parts, body: Buffer.alloc(65_537, " ") }, 2)],
      "a body of 300 KiB": ["401 closed", slowly({ ...parts, body: Buffer.alloc(300_000, " ") }, 3)],
      "a body that is not sent": ["401", (m) => [m.post(parts).subarray(0, -16)]],
      "half a body": ["401", (m) => [m.post(parts).subarray(0, -6)]],
      "half a body, then half of the next": [
        "401 200",
        (m) => {
          const both = one([m.post(parts), m.post()]);
          return cutAt(both, m.post(parts).length - 6, m.post(parts).length + 30).flatMap((piece): Step[] => [
            piece,
            "settle",
          ]);
        },
      ],
      "a body, and the next right behind it": [
        "401 200 200",
        (m) => {
          const bytes = m.post(parts);
          const at = bytes.length - 16;
          return [bytes.subarray(0, at), "settle", one([bytes.subarray(at), m.post(), m.get()])];
        },
      ],
      "a GET": ["401 200", (m) => [m.get({ fields: ["X-Api-Key: nonsense"] }), "settle", m.post()]],
      "many, one after the other": [
        "401 401 401 401 200",
        (m) => [
          ...[1, 2, 3, 4].flatMap((): Step[] => {
            const bytes = m.post(parts);
            return [bytes.subarray(0, -16), "settle", bytes.subarray(-16)];
          }),
          m.post(),
        ],
      ],
    }));
}

test("a denied request in one packet with its body, small and large", () =>
  twins.compareAll("denied at once", {
    small: ["401 200", (m) => [one([m.post({ path: known }), m.post()])]],
    "three, and a good one": [
      "401 401 401 200",
      (m) => [one([...[1, 2, 3].map(() => m.post({ path: known })), m.post()])],
    ],
    "8 KiB": ["401 200", (m) => [one([m.post({ path: known, body: json("l".repeat(8000)) }), m.post()])]],
    "60 KiB": [
      "401 200",
      (m) => [m.post({ path: known, body: json("l".repeat(60_000)) }), "settle", m.post()],
    ],
  }));

test("a deadline that passes while the body is on its way", () =>
  twins.compareAll("deadline", {
    "nothing of the body": ["504 200", late({ fields: ["Connect-Timeout-Ms: 150"] }, -16)],
    "half of the body": ["504 200", late({ fields: ["Connect-Timeout-Ms: 150"] }, -6)],
    "all but the last byte": ["504 200", late({ fields: ["Connect-Timeout-Ms: 150"] }, -1)],
    "of a denied one": ["401 200", late({ path: known, fields: ["Connect-Timeout-Ms: 150"] }, -6)],
    "of gRPC-Web": [
      "200 200",
      late(
        {
          type: "application/grpc-web+json",
          fields: ["Grpc-Timeout: 150m"],
          body: frame(Buffer.from(json("hello"))),
        },
        -6,
      ),
    ],
    "of a body above 64 KiB": [
      "429 closed",
      late({ fields: ["Connect-Timeout-Ms: 150"], body: json("l".repeat(70_000)) }, -60_000),
    ],
    "that has passed with the head": ["504 200", late({ fields: ["Connect-Timeout-Ms: 0"] }, -6)],
    "that is none": ["400 200", late({ fields: ["Connect-Timeout-Ms: soon"] }, -6)],
    "that does not pass": ["200 200", late({ fields: ["Connect-Timeout-Ms: 60000"] }, -6, false)],
  }));

/** Part of a request, the rest of it when its deadline has passed, and another one. */
function late(parts: Parts, cut: number, isReached = true): Steps {
  return (m) => {
    const bytes = m.post(parts);
    return [bytes.subarray(0, cut), isReached ? 1 : "settle", bytes.subarray(cut), "settle", m.post()];
  };
}

const gzip = (text: string) => gzipSync(Buffer.from(text));
const tooMuch = json("l".repeat(maxMessageBytes));
test("messages that are too large, compressed, or none", () =>
  twins.compareAll("messages", {
    "of the largest size": ["200 200", slowly({ body: json("l".repeat(maxMessageBytes - 11)) }, 2)],
    "a byte above it": ["429 200", slowly({ body: json("l".repeat(maxMessageBytes - 10)) }, 2)],
    "above the limit, its length first": ["429 200", slowly({ body: tooMuch }, 1)],
    "above the limit, at once": ["429 200", (m) => [m.post({ body: tooMuch }), "settle", m.post()]],
    "above the limit, another right behind it": [
      "429 200",
      (m) => [one([m.post({ body: tooMuch }), m.post()])],
    ],
    "far above the limit": ["429 closed", slowly({ body: json("l".repeat(200_000)) }, 4)],
    "60 KiB": ["429 200", slowly({ body: json("l".repeat(60_000)) }, 4)],
    "framed, above the limit": [
      "200 200",
      slowly({ type: "application/grpc-web+json", body: frame(Buffer.from(tooMuch)) }, 2),
    ],
    "framed, said to be above the limit": [
      "200 200",
      slowly({ type: "application/grpc-web+json", body: frame(Buffer.from(json("hello")), 0, 2 ** 31) }, 2),
    ],
    "no JSON": ["400 200", slowly({ body: "{no" }, 1)],
    "no UTF-8": ["200 200", slowly({ body: Buffer.from('{"text":"\xff"}', "latin1") }, 1)],
    "no protobuf": ["500 200", slowly({ type: "application/proto", body: "\xff\xff\xff" }, 1)],
    "an unknown field": ["200 200", slowly({ body: '{"unknown":1}' }, 1)],
    "an odd type": ["415 200", slowly({ type: "text/plain" }, 1)],
    "no type": ["415 200", slowly({ type: null }, 1)],
    "a type with a charset": ["200 200", slowly({ type: "application/json; charset=utf-8" }, 1)],
    compressed: ["200 200", slowly({ fields: ["Content-Encoding: gzip"], body: gzip(json("hello")) }, 2)],
    "compressed by Brotli": [
      "200 200",
      slowly({ fields: ["Content-Encoding: br"], body: brotliCompressSync(Buffer.from(json("hello"))) }, 2),
    ],
    "compressed, too large when inflated": [
      "429 200",
      slowly({ fields: ["Content-Encoding: gzip"], body: gzip(tooMuch) }, 1),
    ],
    "not compressed though it says so": ["400 200", slowly({ fields: ["Content-Encoding: gzip"] }, 1)],
    "compressed in an unknown way": ["501 200", slowly({ fields: ["Content-Encoding: snappy"] }, 1)],
    "compressed, in chunks": [
      "200 200",
      (m) => {
        const body = gzip(json("hello"));
        const inChunks = one([
          Buffer.from(`${body.length.toString(16)}\r\n`),
          body,
          Buffer.from("\r\n0\r\n\r\n"),
        ]);
        return [
          m.post({
            length: null,
            fields: ["Content-Encoding: gzip", "Transfer-Encoding: chunked"],
            body: inChunks,
          }),
          "settle",
          m.post(),
        ];
      },
    ],
    "two framed": [
      "200 200",
      slowly(
        {
          type: "application/grpc-web+json",
          body: one([frame(Buffer.from("{}")), frame(Buffer.from("{}"))]),
        },
        2,
      ),
    ],
  }));

test("uploads in chunks that are refused with their head", () =>
  twins.compareAll("refused uploads", {
    denied: ["401 closed", upload({ path: known })],
    "of an unknown method": ["404 closed", upload({ path: path("None") })],
    "of an odd type": ["415 closed", upload({ type: "text/plain" })],
  }));

/** Its head, then chunks of which there is no end. */
function upload(parts: Parts): Steps {
  const chunk = Buffer.from(`400\r\n${"c".repeat(1024)}\r\n`);
  return (m) => [m.chunked(parts, ""), "settle", ...Array.from({ length: 4 }, () => chunk)];
}

test("requests behind one that is answered early", () =>
  twins.compareAll(
    "behind an early one",
    Object.fromEntries(
      [1, 2, 5, 9].map((count) => [
        `${count} of them`,
        [
          `401${" 200 401".repeat(count)}`,
          (m: Maker) => {
            const first = m.post({ path: known });
            const rest = Array.from({ length: count }, () => [m.post(), m.post({ path: known })]).flat();
            return [first.subarray(0, -4), "settle", one([first.subarray(-4), ...rest])];
          },
        ],
      ]),
    ),
  ));

test("both log the same of all of it", async () => {
  const rows = await twins.pair.compareRows();
  assert.ok(rows > 60, `${rows} connections' requests were logged`);
});

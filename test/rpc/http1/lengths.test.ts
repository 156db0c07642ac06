/** Whatever says how long an HTTP/1.1 request's body is, twice, wrongly or in disguise, no two servers read different requests from the same bytes. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { chunks, json, latin1, type Maker, type Parts, path } from "./bytes.ts";
import { type Steps, startTwins, type Table, type Twins } from "./twins.ts";

let twins: Twins;
before(async () => {
  twins = await startTwins();
});
after(() => twins.pair.close());

const one = Buffer.concat;
const body = json("hello");

/** A request, another one right behind it, and one more when those are answered. */
const withNext =
  (parts: (m: Maker) => Buffer): Steps =>
  (m) => [one([parts(m), m.post({ body: json("next") })]), "settle", m.post({ body: json("last") })];

/** Of these the first request is well-formed and has no body: its message is garbage behind it. */
const noLength = new Set([
  "none",
  "zero",
  "with an underscore in its name",
  "with a letter too many in its name",
  "hidden in another's value",
]);

/** Calls whose message of 16 bytes has a length told by these lines. */
const lengths = (values: Record<string, readonly [string, string]>, name: string): Table =>
  Object.fromEntries(
    Object.entries(values).flatMap(([what, [expected, line]]) => [
      [
        what,
        [
          expected,
          withNext((m) => m.post({ length: null, fields: line === "" ? [] : [line], body })),
          noLength.has(what) ? 1 : 0,
        ],
      ],
      [
        `${what}, ${name} without a body`,
        [undefined, (m: Maker) => [m.get({ fields: line === "" ? [] : [line] }), "settle", m.post()]],
      ],
    ]),
  );

test("Content-Length in each spelling", () =>
  twins.compareAll(
    "length",
    lengths(
      {
        right: ["200 200 200", "Content-Length: 16"],
        none: ["400 closed", ""],
        zero: ["400 closed", "Content-Length: 0"],
        "minus zero": ["400 closed", "Content-Length: -0"],
        "with a plus": ["400 closed", "Content-Length: +16"],
        "with a minus": ["400 closed", "Content-Length: -16"],
        "with a zero before it": ["200 200 200", "Content-Length: 016"],
        "with many zeros before it": ["200 200 200", `Content-Length: ${"0".repeat(300)}16`],
        "in a list": ["400 closed", "Content-Length: 16,16"],
        "in a list with a blank": ["400 closed", "Content-Length: 16, 16"],
        "in a list that differs": ["400 closed", "Content-Length: 16, 17"],
        "with a comma after it": ["400 closed", "Content-Length: 16,"],
        "with blanks around it": ["200 200 200", "Content-Length:    16   "],
        "with tabs around it": ["200 200 200", "Content-Length:\t16\t"],
        "with no blank before it": ["200 200 200", "Content-Length:16"],
        "with a vertical tab before it": ["400 closed", "Content-Length:\v16"],
        "with a form feed after it": ["400 closed", "Content-Length: 16\f"],
        "with NUL after it": ["400 closed", "Content-Length: 16\0"],
        "with a no-break space after it": ["400 closed", "Content-Length: 16\xa0"],
        "with a CR after it": ["400 closed", "Content-Length: 16\r"],
        hexadecimal: ["400 closed", "Content-Length: 0x10"],
        octal: ["400 closed", "Content-Length: 0o20"],
        exponential: ["400 closed", "Content-Length: 1e1"],
        "with a fraction": ["400 closed", "Content-Length: 16.0"],
        "two numbers": ["400 closed", "Content-Length: 1 6"],
        "with a letter after it": ["400 closed", "Content-Length: 16a"],
        "with a semicolon after it": ["400 closed", "Content-Length: 16;"],
        quoted: ["400 closed", 'Content-Length: "16"'],
        "with an underscore": ["400 closed", "Content-Length: 1_6"],
        empty: ["400 closed", "Content-Length:"],
        blank: ["400 closed", "Content-Length:   "],
        "a word": ["400 closed", "Content-Length: ten"],
        "digits of another script": ["400 closed", "Content-Length: \xef\xbc\x91"],
        "2 ** 31": ["429 closed", "Content-Length: 2147483648"],
        "2 ** 32 and as much": ["429 closed", "Content-Length: 4294967312"],
        "2 ** 53": ["", "Content-Length: 9007199254740993"],
        "2 ** 64 - 1": ["", "Content-Length: 18446744073709551615"],
        "2 ** 64 and as much": ["400 closed", "Content-Length: 18446744073709551632"],
        "of a thousand digits": ["400 closed", `Content-Length: ${"9".repeat(1000)}`],
        "in capitals": ["200 200 200", "CONTENT-LENGTH: 16"],
        "in small letters": ["200 200 200", "content-length: 16"],
        "with a blank before its colon": ["400 closed", "Content-Length : 16"],
        "with a tab before its colon": ["400 closed", "Content-Length\t: 16"],
        "with a blank before its name": ["400 closed", " Content-Length: 16"],
        "with an underscore in its name": ["400 closed", "Content_Length: 16"],
        "with an en dash in its name": ["400 closed", "Content\x96Length: 16"],
        "with a letter too many in its name": ["400 closed", "Content-Lengthh: 16"],
        "twice, the same": ["400 closed", "Content-Length: 16\r\nContent-Length: 16"],
        "twice, in different cases": ["400 closed", "Content-Length: 16\r\ncontent-length: 16"],
        "twice, different": ["400 closed", "Content-Length: 16\r\nContent-Length: 17"],
        "twice, the first zero": ["400 closed", "Content-Length: 0\r\nContent-Length: 16"],
        "twice, the second empty": ["400 closed", "Content-Length: 16\r\nContent-Length:"],
        "twice, with another between them": [
          "400 closed",
          "Content-Length: 16\r\nX-Between: 1\r\nContent-Length: 16",
        ],
        folded: ["400 closed", "Content-Length:\r\n 16"],
        "folded after it": ["400 closed", "Content-Length: 16\r\n "],
        "folded with more after it": ["400 closed", "Content-Length: 1\r\n 6"],
        "hidden in another's value": ["400 closed", "X-Hidden: Content-Length: 16"],
        "hidden behind a bare LF": ["400 closed", "X-Hidden: 1\nContent-Length: 16"],
        "hidden behind a bare CR": ["400 closed", "X-Hidden: 1\rContent-Length: 16"],
        "longer than what comes": ["429 closed", "Content-Length: 100000"],
        "64 KiB": ["429", "Content-Length: 65536"],
        "a byte more than 64 KiB": ["429 closed", "Content-Length: 65537"],
      },
      "a GET",
    ),
  ));

/** What is a request to whoever reads the body as chunks, or by its length, and is not to the other. */
const smuggled = (m: Maker) =>
  m.post({ body: json("smuggled"), fields: ["X-Smuggled: 1"] }).toString("latin1");

const codings: Record<string, readonly [string, string]> = {
  chunked: ["200 200 200", "Transfer-Encoding: chunked"],
  "chunked in capitals": ["200 200 200", "Transfer-Encoding: CHUNKED"],
  "chunked in both": ["200 200 200", "transfer-encoding: Chunked"],
  identity: ["400 closed", "Transfer-Encoding: identity"],
  gzip: ["400 closed", "Transfer-Encoding: gzip"],
  "gzip, chunked": ["200 200 200", "Transfer-Encoding: gzip, chunked"],
  "chunked, gzip": ["400 closed", "Transfer-Encoding: chunked, gzip"],
  "chunked, identity": ["400 closed", "Transfer-Encoding: chunked, identity"],
  "identity, chunked": ["200 200 200", "Transfer-Encoding: identity, chunked"],
  "chunked, chunked": ["400 closed", "Transfer-Encoding: chunked, chunked"],
  "chunked twice": ["400 closed", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"],
  "chunked, then identity": ["400 closed", "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity"],
  "identity, then chunked": ["200 200 200", "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked"],
  "chunked, then empty": ["400 closed", "Transfer-Encoding: chunked\r\nTransfer-Encoding:"],
  empty: ["400 closed", "Transfer-Encoding:"],
  "a comma": ["400 closed", "Transfer-Encoding: ,"],
  "chunked with a comma": ["400 closed", "Transfer-Encoding: chunked,"],
  "a comma, chunked": ["200 200 200", "Transfer-Encoding: ,chunked"],
  "chunked with a parameter": ["400 closed", "Transfer-Encoding: chunked;q=1"],
  "chunked, quoted": ["400 closed", 'Transfer-Encoding: "chunked"'],
  xchunked: ["400 closed", "Transfer-Encoding: xchunked"],
  chunkedx: ["400 closed", "Transfer-Encoding: chunkedx"],
  chunke: ["400 closed", "Transfer-Encoding: chunke"],
  "x chunked": ["400 closed", "Transfer-Encoding: x chunked"],
  "chunked x": ["400 closed", "Transfer-Encoding: chunked x"],
  "no blank": ["200 200 200", "Transfer-Encoding:chunked"],
  blanks: ["200 200 200", "Transfer-Encoding:    chunked   "],
  tabs: ["400 closed", "Transfer-Encoding:\tchunked\t"],
  "a vertical tab before": ["400 closed", "Transfer-Encoding:\vchunked"],
  "a vertical tab after": ["400 closed", "Transfer-Encoding: chunked\v"],
  "a form feed before": ["400 closed", "Transfer-Encoding: \fchunked"],
  "NUL after": ["400 closed", "Transfer-Encoding: chunked\0"],
  "a no-break space before": ["400 closed", "Transfer-Encoding: \xa0chunked"],
  "a CR after": ["400 closed", "Transfer-Encoding: chunked\r"],
  "a blank before the colon": ["400 closed", "Transfer-Encoding : chunked"],
  "a tab before the colon": ["400 closed", "Transfer-Encoding\t: chunked"],
  "a vertical tab before the colon": ["400 closed", "Transfer-Encoding\v: chunked"],
  "a blank before the name": ["400 closed", " Transfer-Encoding: chunked"],
  "an underscore in the name": ["400 closed", "Transfer_Encoding: chunked"],
  "a blank in the name": ["400 closed", "Transfer Encoding: chunked"],
  "a letter too many in the name": ["400 closed", "Transfer-Encodings: chunked"],
  "X- before the name": ["400 closed", "X-Transfer-Encoding: chunked"],
  "capitals in the name": ["200 200 200", "TRANSFER-ENCODING: chunked"],
  folded: ["400 closed", "Transfer-Encoding:\r\n chunked"],
  "folded with a tab": ["400 closed", "Transfer-Encoding:\r\n\tchunked"],
  "folded in the middle": ["400 closed", "Transfer-Encoding: chun\r\n ked"],
  "folded after a coding": ["400 closed", "Transfer-Encoding: identity,\r\n chunked"],
  "folded onto another": ["400 closed", "X-Other: 1\r\n Transfer-Encoding: chunked"],
  "behind a bare LF": ["400 closed", "X-Other: 1\nTransfer-Encoding: chunked"],
  "behind a bare CR": ["400 closed", "X-Other: 1\rTransfer-Encoding: chunked"],
  "behind CR CR LF": ["400 closed", "X-Other: 1\r\r\nTransfer-Encoding: chunked"],
  "its colon missing": ["400 closed", "Transfer-Encoding chunked"],
};

/** Of these the name is another header's: there are up to two requests before what is garbage. */
const otherNames = new Set([
  "an underscore in the name",
  "a letter too many in the name",
  "X- before the name",
]);
const mayAnswer = (what: string) => (otherNames.has(what) ? 2 : 0);

for (const [order, lines] of [
  ["alone", (line: string) => [line]],
  ["after Content-Length", (line: string) => ["Content-Length: LENGTH", line]],
  ["before Content-Length", (line: string) => [line, "Content-Length: LENGTH"]],
] as const) {
  /** As chunks the message ends before what is smuggled, by its length behind that. */
  const build = (m: Maker, line: string, bytes: string, length = bytes.length) =>
    m.post({
      length: null,
      body: latin1(bytes),
      fields: lines(line).map((each) => each.replace("LENGTH", String(length))),
    });

  test(`Transfer-Encoding in each spelling, ${order}, the rest a request to whoever reads chunks`, () =>
    twins.compareAll(
      `coding ${order}, CL.TE`,
      Object.fromEntries(
        Object.entries(codings).map(([what, [expected, line]]) => [
          what,
          [
            order === "alone" ? expected : undefined,
            (m: Maker) => [build(m, line, chunks(body) + smuggled(m)), "settle", m.post()],
            mayAnswer(what),
          ],
        ]),
      ),
    ));

  test(`Transfer-Encoding in each spelling, ${order}, the rest a request to whoever goes by the length`, () =>
    twins.compareAll(
      `coding ${order}, TE.CL`,
      Object.fromEntries(
        Object.entries(codings).map(([what, [, line]]) => [
          what,
          [
            undefined,
            (m: Maker) => {
              const inside = smuggled(m);
              const first = `${inside.length.toString(16)}\r\n`;
              return [build(m, line, `${first}${inside}\r\n0\r\n\r\n`, first.length), "settle", m.post()];
            },
            mayAnswer(what),
          ],
        ]),
      ),
    ));
}

test("chunks in each spelling", () => {
  const bodies: Record<string, readonly [string, string]> = {
    whole: ["200 200", chunks(body)],
    "many of one byte": ["200 200", chunks(...body)],
    "sizes in capitals": ["200 200", `A\r\n${body.slice(0, 10)}\r\n6\r\n${body.slice(10)}\r\n0\r\n\r\n`],
    "a size with zeros before it": ["200 200", `00000010\r\n${body}\r\n0\r\n\r\n`],
    "a last chunk of many zeros": ["200 200", `10\r\n${body}\r\n0000\r\n\r\n`],
    "a size with 0x": ["400 closed", `0x10\r\n${body}\r\n0\r\n\r\n`],
    "a size with a plus": ["400 closed", `+10\r\n${body}\r\n0\r\n\r\n`],
    "a size with a minus": ["400 closed", `-10\r\n${body}\r\n0\r\n\r\n`],
    "a size with a blank before it": ["400 closed", ` 10\r\n${body}\r\n0\r\n\r\n`],
    "a size with a blank after it": ["400 closed", `10 \r\n${body}\r\n0\r\n\r\n`],
    "no size": ["400 closed", `\r\n${body}\r\n0\r\n\r\n`],
    "a size that is no number": ["400 closed", `xyz\r\n${body}\r\n0\r\n\r\n`],
    "a size of more than 64 bits": ["400 closed", `${"f".repeat(17)}\r\n${body}\r\n0\r\n\r\n`],
    "a size too small": ["400 closed", `f\r\n${body}\r\n0\r\n\r\n`],
    "a size too large": ["400 closed", `11\r\n${body}\r\n0\r\n\r\n`],
    "an extension": ["200 200", `10;a=b\r\n${body}\r\n0\r\n\r\n`],
    "an extension in quotes": ["200 200", `10;a="b;c"\r\n${body}\r\n0;x\r\n\r\n`],
    "an extension with a bare LF": ["400 closed", `10;a\n${body}\r\n0\r\n\r\n`],
    "an extension of 20 KiB": ["400 closed", `10;${"e".repeat(20_000)}\r\n${body}\r\n0\r\n\r\n`],
    "sizes that end in LF": ["400 closed", `10\n${body}\n0\n\n`],
    "data that ends in LF": ["400 closed", `10\r\n${body}\n0\r\n\r\n`],
    "data that ends in CR": ["400 closed", `10\r\n${body}\r0\r\n\r\n`],
    "data that ends in nothing": ["400 closed", `10\r\n${body}0\r\n\r\n`],
    trailers: ["200 200", `10\r\n${body}\r\n0\r\nX-Trailer: 1\r\nX-Other: 2\r\n\r\n`],
    "trailers that are headers": [
      "400 closed",
      `10\r\n${body}\r\n0\r\nX-Api-Key: nonsense\r\nContent-Length: 5\r\n\r\n`,
    ],
    "trailers that are malformed": ["400 closed", `10\r\n${body}\r\n0\r\nno colon\r\n\r\n`],
    "trailers of 20 KiB": ["431 closed", `10\r\n${body}\r\n0\r\nX-Trailer: ${"t".repeat(20_000)}\r\n\r\n`],
    "no end": ["400 closed", `10\r\n${body}\r\n`],
    "no last line": ["400 closed", `10\r\n${body}\r\n0\r\n`],
    "nothing but the end": ["400 200", "0\r\n\r\n"],
    nothing: ["400 closed", ""],
  };
  return twins.compareAll(
    "chunks",
    Object.fromEntries(
      Object.entries(bodies).flatMap(([what, [expected, bytes]]) => [
        [what, [expected, (m: Maker) => [m.chunked({}, bytes), "settle", m.post({ body: json("next") })]]],
        // Denied with its head: what has come of the chunks by then would decide whether the connection is kept.
        [
          `${what}, denied`,
          [
            "401 closed",
            (m: Maker) => [
              m.chunked({ path: path("Known") }, ""),
              "settle",
              latin1(bytes),
              "settle",
              m.post(),
            ],
          ],
        ],
      ]),
    ),
  );
});

test("a request within a request's body reaches nobody", async () => {
  const inside: Record<string, (m: Maker) => Parts> = {
    "a call as the message": (m) => ({ body: smuggled(m) }),
    "a call behind the message": (m) => ({ body: `${body}${smuggled(m)}` }),
    "a call as the message of a denied one": (m) => ({ body: smuggled(m), path: path("Known") }),
    "a call as the message to a path that is none": (m) => ({ body: smuggled(m), path: "/nowhere" }),
    "a call as the body of a GET": (m) => ({ ...getParts, body: smuggled(m) }),
    "a call in a header": (m) => ({ fields: [`X-Inside: ${smuggled(m).replaceAll("\r\n", "\\r\\n")}`] }),
    "a call behind bare LFs in a header": (m) => ({
      fields: [`X-Inside: ${smuggled(m).replaceAll("\r\n", "\n")}`],
    }),
  };
  for (const [what, parts] of Object.entries(inside)) {
    const { sightings } = await twins.compare(`inside: ${what}`, (m) => [
      m.post(parts(m)),
      "settle",
      m.post({ body: json("next") }),
    ]);
    assert.ok(!JSON.stringify(sightings).includes("x-smuggled"), what);
  }
});
const getParts: Parts = { method: "GET", path: `${path("Get")}?encoding=json&message={}`, type: null };

test("both log the same of all of it", async () => {
  const rows = await twins.pair.compareRows();
  assert.ok(rows > 5, `${rows} connections' requests were logged`);
});

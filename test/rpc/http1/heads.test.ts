/** Whatever stands in the head of an HTTP/1.1 request, odd, malformed or too much, is taken or refused alike with and without the lean path. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { call, json, latin1, type Maker, type Parts, path } from "./bytes.ts";
import { type Steps, startTwins, type Table, type Twins } from "./twins.ts";

const maxHeaderBytes = 4096;

let twins: Twins;
before(async () => {
  twins = await startTwins({ maxHeaderBytes, corsOrigins: [] });
});
after(() => twins.pair.close());

const one = Buffer.concat;

/** A good request, the one of the case, another one behind it, and one more when those are answered. */
const amid =
  (bytes: (m: Maker) => Buffer): Steps =>
  (m) => [
    m.post({ body: json("first") }),
    1,
    one([bytes(m), m.post({ body: json("next") })]),
    "settle",
    m.post(),
  ];

/** Of these what follows the request, in the same packet, is nothing that a server takes. */
const endsEarly = new Set(["an empty line in the middle", "HTTP/1.0", "of HTTP/1.0's, none"]);

/** Cases by the lines that are added to a call, or what else is changed about it. */
function calls(all: Readonly<Record<string, readonly [string, Parts | string]>>): Table {
  return Object.fromEntries(
    Object.entries(all).map(([name, [expected, change]]) => [
      name,
      [
        expected,
        amid((m) => m.post(typeof change === "string" ? { fields: [change] } : change)),
        endsEarly.has(name) ? 2 : 0,
      ],
    ]),
  );
}

/** The same of a GET, whose outcome is not told beforehand. */
function gets(all: Readonly<Record<string, readonly [string, Parts | string]>>): Table {
  return Object.fromEntries(
    Object.entries(all).map(([name, [, change]]) => [
      name,
      [
        undefined,
        amid((m) => m.get(typeof change === "string" ? { fields: [change] } : omitBody(change))),
        endsEarly.has(name) ? 2 : 0,
      ],
    ]),
  );
}
const omitBody = ({ body: _, length: __, type: ___, path: ____, method: _____, ...rest }: Parts): Parts =>
  rest;

function both(group: string, all: Readonly<Record<string, readonly [string, Parts | string]>>) {
  return async () => {
    await twins.compareAll(group, calls(all));
    await twins.compareAll(`${group}, GET`, gets(all));
  };
}

const controls = Array.from({ length: 33 }, (_, i) => (i === 32 ? 0x7f : i));
const named = (code: number) => `0x${code.toString(16).padStart(2, "0")}`;

test(
  "line ends",
  both("line ends", {
    "LF alone": ["200 400 closed", { eol: "\n" }],
    "CR alone": ["200 400 closed", { eol: "\r" }],
    "CR CR LF": ["200 400 closed", { eol: "\r\r\n" }],
    "LF CR": ["200 400 closed", { eol: "\n\r" }],
    "a bare LF after the first line": ["200 400 closed", { line: `POST ${call} HTTP/1.1\nX-First: 1` }],
    "a bare LF after a field": ["200 400 closed", "X-One: 1\nX-Two: 2"],
    "a bare CR after a field": ["200 400 closed", "X-One: 1\rX-Two: 2"],
    "a bare CR in a value": ["200 400 closed", "X-One: a\rb"],
    "a blank line of a blank": ["200 400 closed", "X-One: 1\r\n \r\nX-Two: 2"],
    "an empty line in the middle": ["200 400 closed", "X-One: 1\r\n\r\nX-Two: 2"],
    "folded with a blank": ["200 400 closed", "X-One: a\r\n b"],
    "folded with a tab": ["200 400 closed", "X-One: a\r\n\tb"],
    "folded many times": ["200 400 closed", "X-One: a\r\n b\r\n  c\r\n\td"],
    "folded before any value": ["200 400 closed", "X-One:\r\n a"],
    "folded first line": ["200 400 closed", { line: `POST ${call} HTTP/1.1\r\n X-First: 1` }],
  }),
);

for (const [where, line] of [
  ["in a value", (c: string) => `X-Odd: a${c}b`],
  ["at the start of a value", (c: string) => `X-Odd: ${c}b`],
  ["at the end of a value", (c: string) => `X-Odd: a${c}`],
  ["in a name", (c: string) => `X-O${c}dd: a`],
  ["before a name", (c: string) => `${c}X-Odd: a`],
  ["before the colon", (c: string) => `X-Odd${c}: a`],
  ["in a value that is read", (c: string) => `X-Api-Key: ${c}nonsense`],
  ["in the request id", (c: string) => `X-Request-Id: a${c}b`],
] as const) {
  test(`control characters ${where}`, async () => {
    const table = (build: (m: Maker, field: string) => Buffer): Table =>
      Object.fromEntries(
        controls.map((code) => [
          named(code),
          [undefined, amid((m) => build(m, line(String.fromCharCode(code))))],
        ]),
      );
    await twins.compareAll(
      `${where}`,
      table((m, field) => m.post({ fields: [field] })),
    );
    await twins.compareAll(
      `${where}, GET`,
      table((m, field) => m.get({ fields: [field] })),
    );
  });
}

test("every byte as a name of one character, and in a value", async () => {
  const bytes = Array.from({ length: 256 }, (_, i) => i);
  const table = (field: (c: string) => string): Table =>
    Object.fromEntries(
      bytes.map((code) => [
        named(code),
        [
          undefined,
          (m: Maker) => [m.post({ fields: [field(String.fromCharCode(code))] }), "settle", m.post()],
        ],
      ]),
    );
  await twins.compareAll(
    "names",
    table((c) => `${c}: 1`),
  );
  await twins.compareAll(
    "values",
    table((c) => `X-Value: <${c}>`),
  );
});

test("every byte in the target, the method and the version", async () => {
  const bytes = Array.from({ length: 256 }, (_, i) => i);
  for (const [where, line] of [
    ["target", (c: string) => `POST ${call}${c} HTTP/1.1`],
    ["query", (c: string) => `POST ${call}?a=${c} HTTP/1.1`],
    ["method", (c: string) => `POST${c} ${call} HTTP/1.1`],
    ["version", (c: string) => `POST ${call} HTTP/1.1${c}`],
  ] as const) {
    await twins.compareAll(
      where,
      Object.fromEntries(
        bytes.map((code) => [
          named(code),
          [undefined, (m: Maker) => [m.post({ line: line(String.fromCharCode(code)) }), "settle", m.post()]],
        ]),
      ),
    );
  }
});

test(
  "fields in odd forms",
  both("fields", {
    "an empty name": ["200 400 closed", ": value"],
    "no colon": ["200 400 closed", "X-Nothing"],
    "no colon, with blanks": ["200 400 closed", "X Nothing here"],
    "only a colon": ["200 400 closed", ":"],
    "two colons": ["200 200 200 200", "X-Two:: value"],
    "no value": ["200 200 200 200", "X-None:"],
    "blanks for a value": ["200 200 200 200", "X-None:    "],
    "no blank": ["200 200 200 200", "X-None:value"],
    "many blanks": ["200 200 200 200", "X-Many:     value    "],
    tabs: ["200 200 200 200", "X-Tabs:\t\tvalue\t\t"],
    "a blank before the colon": ["200 400 closed", "X-Odd : value"],
    "a blank before the name": ["200 400 closed", " X-Odd: value"],
    "a blank in the name": ["200 400 closed", "X Odd: value"],
    "a name in quotes": ["200 400 closed", '"X-Odd": value'],
    "a name in brackets": ["200 400 closed", "X(Odd): value"],
    "a name with a slash": ["200 400 closed", "X/Odd: value"],
    "a name of every token character": ["200 200 200 200", "!#$%&'*+-.^_`|~09azAZ: value"],
    "a name in capitals": ["200 200 200 200", "X-CAPITALS: value"],
    "a name above 0x7f": ["200 400 closed", "X-\xe9: value"],
    "a value above 0x7f": ["200 200 200 200", "X-Latin: h\xe9llo \xff"],
    "a value in UTF-8": ["200 200 200 200", `X-Utf8: ${Buffer.from("ünï 🗝").toString("latin1")}`],
    "a long name": ["200 200 200 200", `X-${"n".repeat(500)}: value`],
    "the name __proto__": ["200 200 200 200", "__proto__: value"],
    "the name constructor": ["200 200 200 200", "constructor: value"],
    "the name toString": ["200 200 200 200", "toString: value"],
    "a pseudo-header": ["200 400 closed", ":authority: evil"],
    "a pseudo-header for the path": ["200 400 closed", ":path: /test.equality.Echo/Known"],
    "a field of HTTP/2": ["200 200 200 200", "HTTP2-Settings: AAMAAABkAAQAAP__"],
    te: ["200 200 200 200", "TE: trailers"],
    trailer: ["200 200 200 200", "Trailer: X-Later"],
    "a user agent in UTF-8": ["200 200 200 200", `X-User-Agent: ${Buffer.from("ünï").toString("latin1")}`],
    "a proxy's": ["200 200 200 200", "X-Forwarded-For: 203.0.113.7"],
    "a span's": ["200 200 200 200", "Traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"],
    "a request id": ["200 200 200 200", "X-Request-Id: mine"],
    "a request id that is none": ["200 200 200 200", "X-Request-Id: not mine, with blanks"],
    "a request id above 0x7f": ["200 200 200 200", "X-Request-Id: h\xe9"],
    "a long request id": ["200 200 200 200", `X-Request-Id: ${"i".repeat(300)}`],
    "an accepted encoding": ["200 200 200 200", "Accept-Encoding: gzip"],
    "an accepted encoding of Connect's": ["200 200 200 200", "Connect-Accept-Encoding: gzip"],
    "a content encoding": ["200 200 200 200", "Content-Encoding: identity"],
    "a content encoding that it is not in": ["200 400 200 200", "Content-Encoding: gzip"],
    "a protocol version": ["200 200 200 200", "Connect-Protocol-Version: 1"],
    "another protocol version": ["200 200 200 200", "Connect-Protocol-Version: 2"],
    "a timeout": ["200 200 200 200", "Connect-Timeout-Ms: 20000"],
    "a timeout that is none": ["200 400 200 200", "Connect-Timeout-Ms: soon"],
    "gRPC's timeout": ["200 200 200 200", "Grpc-Timeout: 20S"],
  }),
);

/** What is behind the last request of a connection is malformed. */
const closes = (name: string) => (name.startsWith("connection") ? 2 : 0);

const twice: Record<string, readonly [string, string]> = {
  authorization: ["Bearer nonsense", "Bearer other"],
  "x-api-key": ["nonsense", "other"],
  "content-type": ["application/json", "application/proto"],
  host: ["latchkey.test", "evil.test"],
  cookie: ["a=1", "b=2"],
  "x-foo": ["1", "2"],
  "set-cookie": ["a=1", "b=2"],
  "connect-timeout-ms": ["20000", "30000"],
  "content-length": ["16", "17"],
  "content-encoding": ["identity", "gzip"],
  "user-agent": ["one", "two"],
  "x-request-id": ["one", "two"],
  "x-forwarded-for": ["203.0.113.7", "203.0.113.8"],
  "accept-encoding": ["gzip", "br"],
  "connect-protocol-version": ["1", "2"],
  connection: ["keep-alive", "close"],
  "keep-alive": ["timeout=5", "timeout=6"],
  origin: ["https://a.example", "https://b.example"],
  expect: ["100-continue", "200-ok"],
  te: ["trailers", "gzip"],
  date: ["then", "now"],
  referer: ["/a", "/b"],
  accept: ["*/*", "application/json"],
  traceparent: [
    "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "00-0af7651916cd43dd8448eb211c80319d-b7ad6b7169203331-01",
  ],
};

test("fields that come twice", async () => {
  const key = twins.pair.tokens.user ?? "";
  const pairs = Object.entries(twice).flatMap(([name, [a, b]]) => [
    [`${name}, the same`, [`${name}: ${a}`, `${name}: ${a}`]],
    [`${name}, different`, [`${name}: ${a}`, `${name}: ${b}`]],
    [`${name}, different cases`, [`${name}: ${a}`, `${name.toUpperCase()}: ${b}`]],
    [`${name}, one empty`, [`${name}: ${a}`, `${name}:`]],
    [`${name}, three`, [`${name}: ${a}`, `${name}: ${b}`, `${name}: ${a}`]],
    [`${name}, apart`, [`${name}: ${a}`, "X-Between: 1", `${name}: ${b}`]],
  ]) as [string, string[]][];
  pairs.push(
    ["two keys, a good one first", [`X-Api-Key: ${key}`, "X-Api-Key: nonsense"]],
    ["two keys, a good one last", ["X-Api-Key: nonsense", `X-Api-Key: ${key}`]],
    ["a good key twice", [`X-Api-Key: ${key}`, `X-Api-Key: ${key}`]],
    ["a good key by two names", [`X-Api-Key: ${key}`, `Authorization: Bearer ${key}`]],
    ["keys by two names, one bad", [`X-Api-Key: ${key}`, "Authorization: Bearer nonsense"]],
    [
      "two authorizations, a good one first",
      [`Authorization: Bearer ${key}`, "Authorization: Bearer nonsense"],
    ],
    ["two authorizations, both good", [`Authorization: Bearer ${key}`, `Authorization: Bearer ${key}`]],
    ["two authorizations, one basic", [`Authorization: Bearer ${key}`, "Authorization: Basic YTpi"]],
  );
  // The one that Content-Length or Content-Type would be third to is not sent beside these.
  const without = (name: string): Parts =>
    name.startsWith("content-length")
      ? { length: null }
      : name.startsWith("content-type")
        ? { type: null }
        : {};
  await twins.compareAll(
    "twice",
    Object.fromEntries(
      pairs.map(([name, fields]) => [
        name,
        [undefined, amid((m) => m.post({ ...without(name), fields, path: path("Known") })), closes(name)],
      ]),
    ),
  );
  await twins.compareAll(
    "twice, GET",
    Object.fromEntries(
      pairs.map(([name, fields]) => [name, [undefined, amid((m) => m.get({ fields })), closes(name)]]),
    ),
  );
  await twins.compareAll(
    "twice, not denied",
    Object.fromEntries(
      Object.entries(twice).map(([name, [a, b]]) => [
        name,
        [
          undefined,
          amid((m) =>
            m.post({ ...without(name), fields: [`${name}: ${a}`, `X-Api-Key: ${key}`, `${name}: ${b}`] }),
          ),
          closes(name),
        ],
      ]),
    ),
  );
});

test(
  "hosts",
  both("hosts", {
    none: ["200 400 closed", { host: null }],
    empty: ["200 400 200 200", { host: "" }],
    blank: ["200 400 200 200", { host: "   " }],
    "two, the same": ["200 200 200 200", "Host: latchkey.test"],
    "two, different": ["200 200 200 200", "Host: evil.test"],
    "two, the second empty": ["200 200 200 200", "Host:"],
    "last of all": ["200 200 200 200", { host: null, fields: ["Host: latchkey.test"] }],
    "with a port": ["200 200 200 200", { host: "latchkey.test:8080" }],
    "with a port of no digits": ["200 200 200 200", { host: "latchkey.test:" }],
    "with a port too large": ["200 400 200 200", { host: "latchkey.test:99999" }],
    "with a port that is none": ["200 400 200 200", { host: "latchkey.test:abc" }],
    "an IPv4 address": ["200 200 200 200", { host: "127.0.0.1" }],
    "an IPv6 address": ["200 200 200 200", { host: "[::1]:80" }],
    "an IPv6 address without brackets": ["200 400 200 200", { host: "::1" }],
    "with a user": ["200 200 200 200", { host: "user@latchkey.test" }],
    "with a path": ["200 200 200 200", { host: "latchkey.test/path" }],
    "with a query": ["200 200 200 200", { host: "latchkey.test?query" }],
    "with a fragment": ["200 200 200 200", { host: "latchkey.test#fragment" }],
    "with a scheme": ["200 200 200 200", { host: "http://latchkey.test" }],
    "with a blank in it": ["200 400 200 200", { host: "latchkey test" }],
    "with blanks around it": ["200 200 200 200", { host: "  latchkey.test  " }],
    "with a comma": ["200 400 200 200", { host: "latchkey.test, evil.test" }],
    "with a tab in it": ["200 200 200 200", { host: "latch\tkey.test" }],
    "in capitals": ["200 200 200 200", { host: "LATCHKEY.TEST" }],
    "above 0x7f": ["200 200 200 200", { host: "l\xe4tchkey.test" }],
    "with percent signs": ["200 200 200 200", { host: "latchkey%2etest" }],
    "with a backslash": ["200 200 200 200", { host: "latchkey.test\\evil" }],
    "with angle brackets": ["200 400 200 200", { host: "<latchkey>" }],
    "of dots": ["200 200 200 200", { host: ".." }],
    "very long": ["200 200 200 200", { host: "h".repeat(300) }],
    "of an odd name": ["200 400 closed", { host: null, fields: ["Host : latchkey.test"] }],
    "of HTTP/1.0's, none": ["200 400(closed) closed", { version: "HTTP/1.0", host: null }],
  }),
);

test(
  "targets",
  both("targets", {
    absolute: ["200 200 200 200", { line: `POST http://latchkey.test${call} HTTP/1.1` }],
    "absolute, of another host": ["200 200 200 200", { line: `POST http://evil.test${call} HTTP/1.1` }],
    "absolute, by https": ["200 200 200 200", { line: `POST https://latchkey.test${call} HTTP/1.1` }],
    "absolute, of another scheme": ["200 404 200 200", { line: `POST ftp://latchkey.test${call} HTTP/1.1` }],
    "an authority": ["200 400 closed", { line: "POST latchkey.test:80 HTTP/1.1" }],
    "an asterisk": ["200 404 200 200", { line: "POST * HTTP/1.1" }],
    "an asterisk, OPTIONS": ["200 404 200 200", { line: "OPTIONS * HTTP/1.1" }],
    "a network path": ["200 404 200 200", { line: `POST //latchkey.test${call} HTTP/1.1` }],
    "two slashes": ["200 404 200 200", { line: `POST /${call} HTTP/1.1` }],
    "a slash after it": ["200 404 200 200", { line: `POST ${call}/ HTTP/1.1` }],
    "no slash before it": ["200 400 closed", { line: `POST ${call.slice(1)} HTTP/1.1` }],
    "a query": ["200 200 200 200", { line: `POST ${call}?a=b HTTP/1.1` }],
    "an empty query": ["200 200 200 200", { line: `POST ${call}? HTTP/1.1` }],
    "a fragment": ["200 200 200 200", { line: `POST ${call}#fragment HTTP/1.1` }],
    "percent signs": ["200 200 200 200", { line: "POST /test.equality.Echo/%43all HTTP/1.1" }],
    "a percent sign that is none": ["200 400 200 200", { line: `POST ${call}%zz HTTP/1.1` }],
    "a NUL in percent signs": ["200 404 200 200", { line: `POST ${call}%00 HTTP/1.1` }],
    "another case": ["200 404 200 200", { line: "POST /test.equality.echo/call HTTP/1.1" }],
    dots: ["200 404 200 200", { line: "POST /test.equality.Echo/../test.equality.Echo/Call HTTP/1.1" }],
    "a dot": ["200 404 200 200", { line: "POST /./test.equality.Echo/Call HTTP/1.1" }],
    "a semicolon": ["200 404 200 200", { line: `POST ${call};a=b HTTP/1.1` }],
    "above 0x7f": ["200 400 closed", { line: `POST ${call}\xe9 HTTP/1.1` }],
    empty: ["200 400 closed", { line: "POST  HTTP/1.1" }],
    none: ["200 400 closed", { line: "POST HTTP/1.1" }],
    "a root": ["200 404 200 200", { line: "POST / HTTP/1.1" }],
    "very long": ["200 404 200 200", { line: `POST ${call}${"x".repeat(2000)} HTTP/1.1` }],
    "two blanks before it": ["200 200 200 200", { line: `POST  ${call} HTTP/1.1` }],
    "two blanks after it": ["200 200 200 200", { line: `POST ${call}  HTTP/1.1` }],
    "a tab before it": ["200 400 closed", { line: `POST\t${call} HTTP/1.1` }],
    "a tab after it": ["200 400 closed", { line: `POST ${call}\tHTTP/1.1` }],
    "a blank in it": ["200 400 closed", { line: `POST ${call} more HTTP/1.1` }],
    "a blank after all": ["200 400 closed", { line: `POST ${call} HTTP/1.1 ` }],
    "a blank before all": ["200 400 closed", { line: ` POST ${call} HTTP/1.1` }],
  }),
);

const methods: Record<string, readonly string[]> = {
  "200 405 200 200": "GET HEAD PUT PATCH DELETE OPTIONS TRACE QUERY".split(" "),
  "200 404 200 200": "PROPFIND M-SEARCH SOURCE PURGE".split(" "),
  "200 400 closed": [
    ..."post Post POSt get Get PRI P POS POSTS POSTT GETT XPOST FOO".split(" "),
    ...["", "PO ST", "P\u00d6ST", "POST,", '"POST"', "POST\0"],
  ],
  "200 closed": ["CONNECT"],
};
test(
  "methods",
  both(
    "methods",
    Object.fromEntries(
      Object.entries(methods).flatMap(([expected, all]) =>
        all.map((method) => [method, [expected, { line: `${method} ${call} HTTP/1.1` }] as const]),
      ),
    ),
  ),
);

test(
  "versions",
  both(
    "versions",
    Object.fromEntries(
      [
        ..."HTTP/1.0 HTTP/1.2 HTTP/1.9 HTTP/2.0 HTTP/2 HTTP/0.9 HTTP/3.0 HTTP/1 HTTP/1. HTTP/.1 HTTP/11 HTTP/1.10 HTTP/1.11".split(
          " ",
        ),
        ..."http/1.1 Http/1.1 HTTP/01.1 HTTP/1,1 HTTP1.1 HTTP/ HTTP /1.1 HTTPS/1.1 ICE/1.0 RTSP/1.0 HTTP/1.1.1 HTTP/+1.1 HTTP/\uff11.1".split(
          " ",
        ),
        "HTTP/1.1 HTTP/1.1",
        "",
      ].map((version) => [
        version,
        ["200 400 closed", { line: `POST ${call} ${Buffer.from(version).toString("latin1")}` }] as const,
      ]),
    ),
  ),
);

/** The first line to the last: how many bytes a parser counts is not what stands on the wire. */
test("heads about as large as may be", async () => {
  const sizes = [
    -300, -200, -130, -110, -100, -90, -80, -70, -60, -40, -20, -10, -5, -2, -1, 0, 1, 2, 5, 10, 50, 500,
    4000,
  ];
  /** How much room a head without the padding leaves. */
  const room = (head: Buffer) => maxHeaderBytes - head.length;
  const padded: Record<string, (m: Maker, off: number) => Buffer> = {
    "one long field": (m, off) => {
      const fields = (n: number) => [`X-Pad: ${"p".repeat(n)}`];
      return m.post({ fields: fields(room(headOf(m.post({ fields: fields(0) }))) + off) });
    },
    "one long field, GET": (m, off) => {
      const fields = (n: number) => [`X-Pad: ${"p".repeat(n)}`];
      return m.get({ fields: fields(room(m.get({ fields: fields(0) })) + off) });
    },
    "a long path": (m, off) => {
      const parts = (n: number) => ({ line: `POST ${call}?${"p".repeat(n)} HTTP/1.1` });
      return m.post(parts(room(headOf(m.post(parts(0)))) + off));
    },
    "a long message in the path": (m, off) => {
      const message = (n: number) => json("p".repeat(n));
      return m.get({ message: message(room(m.get({ message: message(0) })) + off) });
    },
    "a long name": (m, off) => {
      const fields = (n: number) => [`X-${"p".repeat(n)}: 1`];
      return m.post({ fields: fields(room(headOf(m.post({ fields: fields(0) }))) + off) });
    },
    "blanks before a value": (m, off) => {
      const fields = (n: number) => [`X-Pad:${" ".repeat(n)}1`];
      return m.post({ fields: fields(room(headOf(m.post({ fields: fields(0) }))) + off) });
    },
    "many short fields": (m, off) => {
      const count = Math.floor((room(headOf(m.post())) + off) / 11);
      return m.post({
        fields: Array.from({ length: Math.max(0, count) }, (_, i) => `p${String(i).padStart(4, "0")}: 12`),
      });
    },
  };
  const table = (whole: boolean): Table =>
    Object.fromEntries(
      Object.entries(padded).flatMap(([name, build]) =>
        sizes.map((off) => [
          `${name}, ${off} off`,
          [
            undefined,
            (m: Maker) => {
              const bytes = build(m, off);
              return whole
                ? [bytes, "settle", m.post()]
                : [bytes.subarray(0, 3000), bytes.subarray(3000), "settle", m.post()];
            },
          ],
        ]),
      ),
    );
  await twins.compareAll("limit", table(true));
  await twins.compareAll("limit, in two", table(false));
});

test("fields by the hundred and by the thousand", async () => {
  const own = await startTwins({ maxHeaderBytes: 256 * 1024 });
  try {
    await own.compareAll(
      "many",
      Object.fromEntries(
        [50, 100, 200, 990, 1000, 1500, 1990, 1999, 2000, 2001, 2500, 5000].flatMap((count) =>
          [
            ["of names of their own", (i: number) => `X-${i}: ${i}`],
            ["of one name", () => "X-Same: 1"],
          ].map(([name, field]) => [
            `${count} ${name}`,
            [
              undefined,
              (m: Maker) => {
                const fields = Array.from({ length: count }, (_, i) => (field as (i: number) => string)(i));
                return [m.post({ fields }), "settle", m.post()];
              },
            ],
          ]),
        ),
      ),
    );
    const hidden =
      (count: number): Steps =>
      (m) => [
        m.post({
          path: path("Known"),
          fields: [
            ...Array.from({ length: count }, (_, i) => `X-${i}: ${i}`),
            `X-Api-Key: ${own.pair.tokens.user}`,
          ],
        }),
      ];
    await own.compareAll(
      "a key behind so many",
      Object.fromEntries(
        [1990, 1994, 1995, 1996, 2000, 3000].map((count) => [String(count), [undefined, hidden(count)]]),
      ),
    );
    await own.pair.compareRows();
  } finally {
    await own.pair.close();
  }
});

test("bytes that are no HTTP/1.1", () =>
  twins.compareAll(
    "no HTTP",
    Object.fromEntries(
      (
        [
          ["NUL", "\0\0\0\0"],
          ["a word and no end", "hello"],
          ["a line", "hello\r\n"],
          ["a head", "hello\r\n\r\n"],
          ["HTTP/0.9", "GET /\r\n"],
          ["an answer", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"],
          ["half a preface of HTTP/2", "PRI * HTTP/2"],
          ["nearly a preface of HTTP/2", "PRI * HTTP/2.1\r\n\r\nSM\r\n\r\n"],
          ["SSH", "SSH-2.0-OpenSSH_9.6\r\n"],
          ["bytes above 0x7f", "\xff\xfe\xfd\r\n\r\n"],
          [
            "a proxy's header",
            "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nGET /healthz HTTP/1.1\r\nHost: a\r\n\r\n",
          ],
        ] as const
      ).map(([name, bytes]) => [name, [undefined, () => [latin1(bytes)]]]),
    ),
  ));

test("both log the same of all of it", async () => {
  const rows = await twins.pair.compareRows();
  assert.ok(rows > 300, `${rows} connections' requests were logged`);
});

function headOf(bytes: Buffer): Buffer {
  return bytes.subarray(0, bytes.indexOf("\r\n\r\n") + 4);
}

/** However a request is put, the lean unary path takes, refuses and logs it as stock Connect does: headers, verbs, paths, credentials. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { secretKey } from "../harness/server.ts";
import { ask } from "./equality/behaviours.ts";
import { build, type Call, type Protocol, protocols, typeOf, usual } from "./equality/calls.ts";
import { type Pair, startPair } from "./equality/pair.ts";
import type { Fields, Request } from "./equality/wire.ts";

const corsOrigin = "https://app.example.com";
/** With a hook of Fastify's, here that for CORS, requests come in another way. */
const pairs = {
  straight: () => startPair({ trustedProxies: ["127.0.0.1"] }),
  "past a hook": () => startPair({ trustedProxies: ["127.0.0.1"], corsOrigins: [corsOrigin] }),
};
const started = new Map<string, Pair>();
before(async () => {
  for (const [name, start] of Object.entries(pairs)) started.set(name, await start());
});
after(() => Promise.all([...started.values()].map((pair) => pair.close())));

function each(title: string, run: (pair: Pair) => Promise<unknown>): void {
  for (const name of Object.keys(pairs)) {
    test(`${title}, ${name}`, async () => {
      const pair = started.get(name);
      if (pair !== undefined) await run(pair);
    });
  }
}

const message = { text: "hello", big: -1n };

/** Compares a call in each protocol, with headers and whatever else is changed. */
function cases(
  group: string,
  among: readonly Protocol[],
  all: Record<string, Fields | ((protocol: Protocol, request: Request) => Request)>,
  call: Call = {},
): void {
  for (const [name, change] of Object.entries(all)) {
    each(`${group}: ${name}`, (pair) =>
      pair.compareAll(
        among.map((protocol) => {
          const plain = build(protocol, { message, ...call });
          const request =
            typeof change === "function"
              ? change(protocol, plain)
              : { ...plain, headers: [...plain.headers, ...change] };
          return [`${group}: ${name}, ${protocol.name}`, request] as const;
        }),
      ),
    );
  }
}

const withHeaders =
  (change: (headers: Fields) => Fields) =>
  (_: Protocol, request: Request): Request => ({ ...request, headers: change(request.headers) });
const without = (name: string) => withHeaders((headers) => headers.filter(([each]) => each !== name));
const withType = (type: string) =>
  withHeaders((headers) => [...headers.filter(([each]) => each !== "content-type"), ["content-type", type]]);
const withPath = (change: (path: string) => string) => (_: Protocol, request: Request) => ({
  ...request,
  path: change(request.path),
});
const withVerb = (method: string) => (_: Protocol, request: Request) => ({ ...request, method });

cases("headers", protocols, {
  none: [],
  "of any case": [
    ["X-Case", "Mixed"],
    ["x-CASE-2", "v"],
  ],
  twice: [
    ["x-two", "a"],
    ["x-two", "b"],
    ["X-Two", "c"],
  ],
  "with commas and spaces": [
    ["x-list", "a, b"],
    ["x-list", "  c ,d  "],
  ],
  empty: [["x-empty", ""]],
  "with odd characters": [
    ["x-odd", "\u00e9\u00ff\t;=\"'\\%"],
    ["x!#$%&'*+-.^_`|~9", "name"],
  ],
  long: [["x-long", "l".repeat(8000)]],
  many: Array.from({ length: 60 }, (_, i): [string, string] => [`x-many-${i}`, String(i)]),
  "called like an object's own": [
    ["__proto__", "p"],
    ["constructor", "c"],
    ["toString", "t"],
  ],
  "binary, padded and not": [
    ["x-data-bin", "AQID"],
    ["x-padded-bin", "AQ=="],
    ["x-unpadded-bin", "AQ"],
    ["x-bad-bin", "!!!"],
    ["x-two-bin", "AQ, Ag"],
    ["x-two-bin", "Aw"],
  ],
  "cookies, twice": [
    ["cookie", "a=1"],
    ["cookie", "b=2; c"],
  ],
  "a single value twice": [
    ["content-language", "en"],
    ["content-language", "de"],
    ["referer", "https://a"],
    ["referer", "https://b"],
    ["age", "1"],
    ["age", "2"],
    ["from", "a"],
    ["from", "b"],
  ],
  "that the protocol has no use for": [
    ["accept", "text/html"],
    ["range", "bytes=0-1"],
    ["if-none-match", "*"],
    ["if-modified-since", "Thu, 01 Jan 1970 00:00:00 GMT"],
    ["cache-control", "no-cache"],
    ["max-forwards", "0"],
    ["x-http-method-override", "DELETE"],
  ],
});

cases("request id", usual, {
  given: [["x-request-id", "abc-123_4.5:6"]],
  "of 128 characters": [["x-request-id", "r".repeat(128)]],
  "too long": [["x-request-id", "r".repeat(129)]],
  odd: [["x-request-id", "a b"]],
  empty: [["x-request-id", ""]],
  twice: [
    ["x-request-id", "a"],
    ["x-request-id", "b"],
  ],
});

cases("user agent", usual, {
  none: without("user-agent"),
  long: [["user-agent", "u".repeat(3000)]],
  odd: [["user-agent", "\u00e9\t(x; y)"]],
});

cases("content type", usual, {
  none: without("content-type"),
  empty: withType(""),
  "text/plain": withType("text/plain"),
  "in capitals": (protocol, request) => withType(typeOf(protocol).toUpperCase())(protocol, request),
  "with a charset": (protocol, request) => withType(`${typeOf(protocol)}; charset=utf-8`)(protocol, request),
  "with another charset": (protocol, request) =>
    withType(`${typeOf(protocol)};charset=latin1`)(protocol, request),
  "with an odd parameter": (protocol, request) => withType(`${typeOf(protocol)};`)(protocol, request),
  "with a space before": (protocol, request) => withType(` ${typeOf(protocol)}`)(protocol, request),
  "with something after": (protocol, request) => withType(`${typeOf(protocol)}x`)(protocol, request),
  twice: (protocol, request) => ({
    ...request,
    headers: [...request.headers, ["content-type", typeOf(protocol)]],
  }),
  ...Object.fromEntries(
    [
      "application/grpc",
      "application/grpc+proto",
      "application/grpc+json",
      "application/grpc+thrift",
      "application/grpc;x",
      "application/grpc-web",
      "application/grpc-web+proto",
      "application/grpc-web+json",
      "application/grpc-web-text",
      "application/grpc-web-text+proto",
      "application/grpc-web-text+json",
      "application/grpc-web+text",
      "application/proto",
      "application/json",
      "application/json; charset=UTF-8",
      "application/connect+proto",
      "application/connect+json",
      "application/x-protobuf",
      "application/",
      "application/xml",
      "multipart/form-data",
    ].map((type) => [type, withType(type)]),
  ),
});

cases(
  "verb",
  usual,
  Object.fromEntries(
    ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD", "TRACE", "QUERY", "post"].map((verb) => [
      verb,
      withVerb(verb),
    ]),
  ),
);
cases(
  "verb, of a method without side effects",
  usual,
  Object.fromEntries(["GET", "POST", "PUT", "HEAD", "OPTIONS"].map((verb) => [verb, withVerb(verb)])),
  { method: "Get" },
);

cases("path", usual, {
  "with a query": withPath((path) => `${path}${path.includes("?") ? "&" : "?"}a=1&b=%C3%A9&a=2`),
  "with an empty query": withPath((path) => `${path.split("?")[0]}?`),
  "with a fragment": withPath((path) => `${path}#f`),
  "unknown method": withPath((path) => path.replace(/(Call|Get)/, "Other")),
  "unknown service": withPath((path) => path.replace("Echo", "Echoes")),
  "not implemented": withPath((path) => path.replace(/(Call|Get)/, "Missing")),
  "another case": withPath((path) => path.replace("Echo", "echo")),
  "a slash after": withPath((path) => path.replace(/(Call|Get)/, "$1/")),
  "two slashes before": withPath((path) => `/${path}`),
  encoded: withPath((path) => path.replace("Call", "C%61ll").replace("Get", "G%65t")),
  "encoded slash": withPath((path) => path.replace("/Call", "%2FCall").replace("/Get", "%2FGet")),
  dots: withPath((path) => path.replace("/test", "/x/../test")),
  "of a stream": withPath((path) => path.replace(/(Call|Get)/, "Down")),
  "odd bytes": withPath((path) => `${path}${path.includes("?") ? "&" : "?"}%ff%zz`),
  "a whole URL": withPath((path) => `http://elsewhere.test${path}`),
});

cases("host", usual, {
  // Node's client always sends one over HTTP/2.
  none: (_, request) => (request.version === "2" ? request : { ...request, host: null }),
  empty: (_, request) => ({ ...request, host: "" }),
  "no host": (_, request) => ({ ...request, host: "a b" }),
  "with a port": (_, request) => ({ ...request, host: "latchkey.test:8080" }),
  IPv6: (_, request) => ({ ...request, host: "[::1]:1" }),
  "in capitals": (_, request) => ({ ...request, host: "LATCHKEY.Test" }),
  unicode: (_, request) => ({ ...request, host: "\u00e9.test" }),
  twice: [["Host", "other.test"]],
});

const user = (pair: Pair) => pair.tokens.user ?? "";
for (const header of ["x-api-key", "authorization"] as const) {
  for (const method of ["Call", "Public", "Known", "Staff"]) {
    const tokens: Record<string, (pair: Pair) => string> = {
      "a good one": user,
      "the secret key": () => secretKey,
      "an unknown one": () => "lk_0000000000000000000000000000000000000000",
      malformed: () => "nonsense",
      empty: () => "",
    };
    for (const [name, token] of Object.entries(tokens)) {
      each(`credential in ${header}: ${name}, ${method}`, (pair) =>
        pair.compareAll(
          usual
            .filter(({ kind }) => kind !== "get")
            .map((protocol) => {
              const value = header === "authorization" ? `Bearer ${token(pair)}` : token(pair);
              const request = build(protocol, { method, message, headers: [[header, value]] });
              return [`${header}, ${name}, ${method}, ${protocol.name}`, request] as const;
            }),
        ),
      );
    }
  }
}

const credentials: Record<string, (own: string) => Fields> = {
  "two that differ": (own) => [
    ["x-api-key", own],
    ["authorization", `Bearer ${secretKey}`],
  ],
  "the same in both": (own) => [
    ["x-api-key", own],
    ["authorization", `Bearer ${own}`],
  ],
  "the same twice": (own) => [
    ["x-api-key", own],
    ["x-api-key", own],
  ],
  "two authorizations": (own) => [
    ["authorization", `Bearer ${own}`],
    ["authorization", `Bearer ${secretKey}`],
  ],
  "one authorization twice": (own) => [
    ["authorization", `Bearer ${own}`],
    ["authorization", `Bearer ${own}`],
  ],
  basic: () => [["authorization", "Basic YTpi"]],
  "in small letters": (own) => [["authorization", `bearer ${own}`]],
  "with spaces": (own) => [["authorization", `Bearer   ${own} `]],
};
for (const [name, headers] of Object.entries(credentials)) {
  each(`credentials: ${name}`, (pair) =>
    pair.compareAll(
      usual.map(
        (protocol) =>
          [
            `credentials: ${name}, ${protocol.name}`,
            build(protocol, { message, headers: headers(user(pair)) }),
          ] as const,
      ),
    ),
  );
}

cases("x-forwarded-for", usual, {
  one: [["x-forwarded-for", "203.0.113.7"]],
  several: [["x-forwarded-for", "198.51.100.1, 203.0.113.7"]],
  IPv6: [["x-forwarded-for", "2001:db8::1"]],
  "no address": [["x-forwarded-for", "nobody"]],
});

cases("CORS", protocols, {
  "a known origin": [["origin", corsOrigin]],
  "another origin": [["origin", "https://evil.example.com"]],
  "no origin but null": [["origin", "null"]],
  preflight: (_, request) => ({
    version: request.version,
    method: "OPTIONS",
    path: request.path,
    headers: [
      ["origin", corsOrigin],
      ["access-control-request-method", "POST"],
      ["access-control-request-headers", "x-api-key,content-type"],
    ],
  }),
});

cases("Connect", usual, {
  "its version": [["connect-protocol-version", "1"]],
  "another version": [["connect-protocol-version", "2"]],
  "version in the query": withPath((path) => path.replace("connect=v1", "connect=v2")),
  "no version in the query": withPath((path) => path.replace("connect=v1&", "")),
  "another encoding in the query": withPath((path) => path.replace("encoding=json", "encoding=yaml")),
  "no encoding in the query": withPath((path) => path.replace("encoding=json&", "")),
  "no message in the query": withPath((path) => path.replace(/&message=[^&]*/, "")),
  "two messages in the query": withPath((path) => `${path}&message=%7B%7D`),
  "base64 in the query": withPath((path) => path.replace(/message=[^&]*/, "base64=1&message=e30")),
  "base64, padded": withPath((path) => path.replace(/message=[^&]*/, "base64=1&message=e30%3D")),
  "no base64 in the query": withPath((path) => path.replace(/message=[^&]*/, "base64=1&message=!!!")),
  "base64=0 in the query": withPath((path) => `${path}&base64=0`),
  "compression in the query": withPath((path) => `${path}&compression=gzip`),
  "unknown compression in the query": withPath((path) => `${path}&compression=snappy`),
  "a body with a GET": (protocol, request) =>
    protocol.kind === "get" ? { ...request, body: [Buffer.from("{}")] } : request,
  "a timeout in the query": withPath((path) => `${path}&timeout=1`),
});

const withToken = (token: string) => (_: Protocol, request: Request) => ({ ...request, token });
cases(
  "HTTP/1.1",
  usual.filter(({ version }) => version === "1.1"),
  {
    "HTTP/1.0": withToken("HTTP/1.0"),
    "HTTP/1.0, kept alive": (_, request) => ({
      ...request,
      token: "HTTP/1.0",
      headers: [...request.headers, ["connection", "keep-alive"]],
    }),
    "HTTP/1.0 without a host": (_, request) => ({ ...request, token: "HTTP/1.0", host: null }),
    "HTTP/1.2": withToken("HTTP/1.2"),
    "HTTP/2.0": withToken("HTTP/2.0"),
    "no HTTP": withToken("FTP/1.1"),
    "its last request": [["connection", "close"]],
    "an upgrade": [
      ["connection", "upgrade"],
      ["upgrade", "websocket"],
    ],
    "an upgrade to HTTP/2": [
      ["connection", "Upgrade, HTTP2-Settings"],
      ["upgrade", "h2c"],
      ["http2-settings", "AAMAAABkAAQAAP__"],
    ],
    "two lengths": [["content-length", "1"]],
    "an unknown transfer encoding": [["transfer-encoding", "gzip, chunked"]],
    "a folded header": [["x-folded", "a\r\n b"]],
    "a space before the colon": [["x-space ", "a"]],
    "no name": [["", "a"]],
    "a name of odd characters": [["x(y)", "a"]],
    "a control character": [["x-control", "a\u0001b"]],
    "a NUL": [["x-nul", "a\u0000b"]],
    "more than it takes": [["x-long", "l".repeat(20_000)]],
  },
);

for (const service of ["Intercepted", "Configured"] as const) {
  cases(
    `the service ${service}`,
    protocols,
    {
      "as it is": [],
      "with the protocol's version": [["connect-protocol-version", "1"]],
      "with too long a deadline": [
        ["grpc-timeout", "101S"],
        ["connect-timeout-ms", "100001"],
        ["connect-protocol-version", "1"],
      ],
    },
    { service },
  );
  cases(
    `the service ${service}, a kilobyte`,
    usual,
    { "more than it takes": [["connect-protocol-version", "1"]] },
    { service, message: { text: "t".repeat(1100) } },
  );
  cases(
    `the service ${service}, two kilobytes`,
    usual,
    { "more than it gives": [["connect-protocol-version", "1"]] },
    { service, message: { text: ask("far too many") } },
  );
}

each("both log the same of all of it", async (pair) => {
  const rows = await pair.compareRows();
  assert.ok(rows > 500, `${rows} requests were logged`);
});

/** Answers over HTTP/1.1, whatever a handler makes of them and however slowly they are taken, are the same bytes with and without the lean path. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { ask, behaviourNames } from "../equality/behaviours.ts";
import { build, type Protocol, protocols } from "../equality/calls.ts";
import type { Request } from "../equality/wire.ts";
import { json, Maker, path } from "./bytes.ts";
import { type Steps, startTwins, type Table, type Twins } from "./twins.ts";

let twins: Twins;
let large: Twins;
before(async () => {
  [twins, large] = await Promise.all([
    startTwins(),
    startTwins({ maxMessageBytes: 4 * 1024 * 1024, corsOrigins: ["https://app.example.com"] }),
  ]);
});
after(() => Promise.all([twins.pair.close(), large.pair.close()]));

const one = Buffer.concat;
const http1 = protocols.filter(({ version }) => version === "1.1");
const names = ["grpc-web proto", "grpc-web-text json", "connect json", "connect proto", "get json"];
const usual = http1.filter(({ name }) => names.includes(name.replace(" over HTTP/1.1", "")));

/** A call of the equality tests, as bytes. */
function bytesOf(m: Maker, request: Request): Buffer {
  const fields = request.headers.map(([name, value]) => `${name}: ${value}`);
  if (request.body === undefined) return m.head({ method: request.method, path: request.path, fields });
  return m.post({ path: request.path, type: null, fields, body: one(request.body) });
}

const call = (protocol: Protocol, text: string) => (m: Maker) =>
  bytesOf(m, build(protocol, { message: { text } }));

/** Sets what is the connection's to say. Their ends are compared below. */
const ownsConnection = ["connection headers", "headers of the protocol"];

for (const protocol of usual) {
  test(`whatever a handler does: ${protocol.name}`, () =>
    twins.compareAll(
      `does, ${protocol.name}`,
      Object.fromEntries(
        behaviourNames.map((name) => [
          name,
          [undefined, (m: Maker) => [call(protocol, ask(name))(m), "settle", m.post()]],
        ]),
      ),
    ));
}

test("the answers to calls that are pipelined come in turn, whatever their handlers do", async () => {
  const calls = http1.flatMap((protocol) =>
    behaviourNames
      .filter((name) => !/^(throw|reject)/.test(name) && !ownsConnection.includes(name))
      .map((name) => call(protocol, ask(name))),
  );
  const batches = Array.from({ length: Math.ceil(calls.length / 8) }, (_, i) =>
    calls.slice(8 * i, 8 * i + 8),
  );
  await twins.compareAll(
    "pipelined",
    Object.fromEntries(
      batches.map((batch, i) => [
        String(i),
        [undefined, (m: Maker) => [one(batch.map((make) => make(m))), "settle", m.post()]],
      ]),
    ),
  );
});

/** What a handler can be made to answer of a request's own, over every protocol. */
test("text of any characters comes back", () =>
  twins.compareAll(
    "text",
    Object.fromEntries(
      http1.flatMap((protocol) =>
        [
          ["unicode", "ünïcode 🗝 日本語 \u2028\u2029 \ufeff"],
          ["control characters", "\u0000\u0001\t\r\n\u007f\u0085"],
          ["quotes and backslashes", "\"'\\/</script>"],
          ["nothing", ""],
          ["a long text", "é".repeat(3000)],
          ["a text that is an answer", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"],
        ].map(([name, text]) => [
          `${name}, ${protocol.name}`,
          [undefined, (m: Maker) => [one([call(protocol, text ?? "")(m), m.post()])]],
        ]),
      ),
    ),
  ));

test("the answer to a call of the usual form, to the byte", async () => {
  for (const side of twins.pair.sides) {
    const connection = twins.open(side);
    const done = new Promise((resolve) => connection.socket.on("data", resolve));
    await connection.write(new Maker("exact").post({ fields: ["X-Request-Id: exact"] }));
    await done;
    const text = connection.received.toString("latin1").replace(/Date: [^\r]+/, "Date: (now)");
    assert.equal(
      text,
      [
        "HTTP/1.1 200 OK",
        "x-request-id: exact",
        "cache-control: no-store",
        "content-length: 16",
        "content-type: application/json",
        "Date: (now)",
        "Connection: keep-alive",
        "Keep-Alive: timeout=72",
        "",
        '{"text":"hello"}',
      ].join("\r\n"),
      side.name,
    );
    connection.socket.destroy();
  }
});

/** The handler's headers are what the message says: see behaviours.ts. */
test("GETs in every form of their query", () => {
  const get = path("Get");
  const message = encodeURIComponent(json("hello"));
  const binary = Buffer.from([0x0a, 5, ...Buffer.from("hello")]).toString("base64url");
  const queries: Record<string, string> = {
    "as it should be": `?connect=v1&encoding=json&message=${message}`,
    "without a version": `?encoding=json&message=${message}`,
    "of another version": `?connect=v2&encoding=json&message=${message}`,
    binary: `?connect=v1&encoding=proto&base64=1&message=${binary}`,
    "binary, padded": `?connect=v1&encoding=proto&base64=1&message=${binary}%3D%3D`,
    "binary, not base64": `?connect=v1&encoding=proto&message=%0A%05hello`,
    "JSON in base64": `?encoding=json&base64=1&message=${Buffer.from(json("hello")).toString("base64url")}`,
    "base64 that is none": "?encoding=json&base64=1&message=!!!!",
    "base64=0": `?encoding=json&base64=0&message=${message}`,
    "no message": "?encoding=json",
    "an empty message": "?encoding=json&message=",
    "no encoding": `?message=${message}`,
    "an unknown encoding": `?encoding=xml&message=${message}`,
    "no query": "",
    "an empty query": "?",
    "two messages": `?encoding=json&message=${message}&message=${message}`,
    "two encodings": `?encoding=json&encoding=proto&message=${message}`,
    "more parameters": `?a=b&encoding=json&c=d&message=${message}&e`,
    "another order": `?message=${message}&encoding=json&connect=v1`,
    "plus for a blank": '?encoding=json&message={"text":"a+b"}',
    "a percent sign that is none": "?encoding=json&message=%zz",
    "no UTF-8": "?encoding=json&message=%ff%fe",
    "a fragment": `?encoding=json&message=${message}#fragment`,
    "a bracket": '?encoding=json&message={"list":["a"]}',
    "a quote and a less-than sign": '?encoding=json&message={"text":"<\'>"}',
    "above 0x7f": '?encoding=json&message={"text":"\xe9"}',
    "a second question mark": `?encoding=json&message=${message}?`,
    "a semicolon": `?encoding=json;message=${message}`,
    "compression, identity": `?encoding=json&compression=identity&message=${message}`,
    "compression, gzip": `?encoding=json&compression=gzip&message=${message}`,
    "compression, unknown": `?encoding=json&compression=snappy&message=${message}`,
    "no JSON": "?encoding=json&message={",
    "a key in it": `?encoding=json&message=${message}&x-api-key=nonsense`,
  };
  const cases = (fields: readonly string[], name: string, methods = ["Get"]): Table =>
    Object.fromEntries(
      methods.flatMap((method) =>
        Object.entries(queries).map(([what, query]) => [
          `${what}, ${method}${name}`,
          [
            undefined,
            (m: Maker) => [m.get({ path: get.replace("Get", method) + query, fields }), "settle", m.post()],
          ],
        ]),
      ),
    );
  return twins.compareAll("GET", {
    ...cases([], "", ["Get", "Call", "Down", "None"]),
    ...cases(["Accept-Encoding: gzip", "Connect-Timeout-Ms: 20000"], ", with more headers"),
    ...cases(["Content-Length: 0"], ", with a length of 0"),
    ...cases(["Content-Type: application/json"], ", with a type"),
  });
});

test("methods other than POST and GET, and what browsers ask before", async () => {
  const preflight = (origin: string, method = "POST") => [
    `Origin: ${origin}`,
    `Access-Control-Request-Method: ${method}`,
    "Access-Control-Request-Headers: content-type,x-api-key",
  ];
  const origins = ["https://app.example.com", "https://evil.example.com", "null"];
  const table: Table = Object.fromEntries(
    ["Call", "Get", "Down", "Known", "None"].flatMap((method) =>
      ["HEAD", "OPTIONS", "PUT", "DELETE", "PATCH"].flatMap((verb) =>
        [[], ...origins.map((origin) => preflight(origin))].map((fields) => [
          `${verb} ${method} ${fields[0]}`,
          [
            undefined,
            (m: Maker) => [m.head({ method: verb, path: path(method), fields }), "settle", m.post()],
          ],
        ]),
      ),
    ),
  );
  const calls: Table = Object.fromEntries(
    origins.flatMap((origin) =>
      ["Call", "Known", "None"].map((method) => [
        `POST ${method} from ${origin}`,
        [
          undefined,
          (m: Maker) => [
            m.post({ path: path(method), fields: [`Origin: ${origin}`] }),
            "settle",
            m.get({ fields: [`Origin: ${origin}`] }),
          ],
        ],
      ]),
    ),
  );
  await Promise.all([
    twins.compareAll("other methods", { ...table, ...calls }),
    large.compareAll("other methods, with CORS", { ...table, ...calls }),
  ]);
});

test("large answers are taken whole, one behind the other", () => {
  const text = "large é ".repeat(100_000);
  const steps =
    (protocol: Protocol): Steps =>
    (m) => [one([call(protocol, text)(m), m.post(), call(protocol, text)(m)]), 3, m.post()];
  return large.compareAll(
    "large",
    Object.fromEntries(
      usual
        .filter(({ kind }) => kind !== "get")
        .map((protocol) => [protocol.name, ["200 200 200 200", steps(protocol)]]),
    ),
  );
});

test("both log the same of all of it", async () => {
  const rows = (await twins.pair.compareRows()) + (await large.pair.compareRows());
  assert.ok(rows > 500, `${rows} connections' requests were logged`);
});

/** Heads of requests: what is read here, node:http reads alike; what is odd is not read here. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, type IncomingMessage } from "node:http";
import net from "node:net";
import { after, before, test } from "node:test";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import fc from "fast-check";
import { headEnd, readHead } from "../../src/http1/request-head.ts";

const bytesOf = (...lines: string[]) => Buffer.from(`${lines.join("\r\n")}\r\n\r\n`, "latin1");
const read = (...lines: string[]) => readHead(bytesOf(...lines));
const post = "POST /a.B/C HTTP/1.1";

test("a head is read as it stands: names in small letters, values without padding", () => {
  const head = read(
    post,
    "Host: a.example:80",
    "X-Own:\t one  two \t",
    "Content-Length: 12",
    "x-empty:",
    "x: \xe9",
  );
  assert.deepEqual(
    { ...head },
    {
      verb: "POST",
      path: "/a.B/C",
      headers: {
        host: "a.example:80",
        "x-own": "one  two",
        "content-length": "12",
        "x-empty": "",
        x: "\xe9",
      },
      rawHeaders: [
        ["Host", "a.example:80"],
        ["X-Own", "one  two"],
        ["Content-Length", "12"],
        ["x-empty", ""],
        ["x", "\xe9"],
      ].flat(),
      bodyBytes: 12,
      derived: undefined,
    },
  );
});

test("where a head ends is behind its first empty line", () => {
  const bytes = Buffer.concat([bytesOf(post, "host: a"), bytesOf("body")]);
  assert.equal(headEnd(bytes), bytesOf(post, "host: a").length);
  assert.equal(headEnd(bytes.subarray(0, 10)), 0);
  assert.equal(headEnd(Buffer.from("POST / HTTP/1.1\n\n")), 0);
});

const usual: Record<string, string[]> = {
  "no content-length: no body": [],
  "a content-length of zeros": ["content-length: 00"],
  "the largest body": ["content-length: 65536"],
  "a connection that is kept": ["Connection: Keep-Alive"],
  "as many headers as there may be": Array.from({ length: 99 }, (_, i) => `x-${i}: 1`),
};
for (const [name, lines] of Object.entries(usual)) {
  test(`read: ${name}`, () => assert.ok(read(post, "host: a", ...lines)));
}

const odd: Record<string, string[]> = {
  "no host": [post],
  "another verb": ["PUT /a.B/C HTTP/1.1", "host: a"],
  "a verb in small letters": ["post /a.B/C HTTP/1.1", "host: a"],
  "HTTP/1.0": ["POST /a.B/C HTTP/1.0", "host: a"],
  "another version": ["POST /a.B/C HTTP/1.2", "host: a"],
  "two spaces": ["POST  /a.B/C HTTP/1.1", "host: a"],
  "a tab for a space": ["POST\t/a.B/C HTTP/1.1", "host: a"],
  "a whole URL": ["POST http://a/a.B/C HTTP/1.1", "host: a"],
  "an asterisk": ["POST * HTTP/1.1", "host: a"],
  "a path with a space": ["POST /a.B/ C HTTP/1.1", "host: a"],
  "a path that is not ASCII": ["POST /a.B/\xe9 HTTP/1.1", "host: a"],
  "an empty line first": ["", post, "host: a"],
  "a folded line": [post, "host: a", "x-a: 1", " 2"],
  "a folded first line": [post, " x: 1", "host: a"],
  "a bare line feed": [`${post}\nhost: a`],
  "a bare line feed in a value": [post, "host: a", "x: 1\ny: 2"],
  "a bare carriage return in a value": [post, "host: a", "x: 1\ry: 2"],
  "a NUL in a value": [post, "host: a", "x: 1\0"],
  "a DEL in a value": [post, "host: a", "x: 1\x7f"],
  "a vertical tab in a value": [post, "host: a", "x: \x0bchunked"],
  "a space before a colon": [post, "host: a", "x : 1"],
  "a space in a name": [post, "host: a", "x y: 1"],
  "a name that is not ASCII": [post, "host: a", "x\xe9: 1"],
  "no name": [post, "host: a", ": 1"],
  "no colon": [post, "host: a", "x"],
  "a header twice": [post, "host: a", "x: 1", "X: 1"],
  "two hosts": [post, "host: a", "Host: a"],
  "two lengths": [post, "host: a", "content-length: 1", "Content-Length: 1"],
  "a header that every object has": [post, "host: a", "constructor: 1"],
  "the prototype as a header": [post, "host: a", "__proto__: 1"],
  "one header too many": [post, "host: a", ...Array.from({ length: 100 }, (_, i) => `x-${i}: 1`)],
  "a cookie to set": [post, "host: a", "set-cookie: a=1"],
  "a body in chunks": [post, "host: a", "transfer-encoding: chunked"],
  "a body in chunks, and a length": [post, "host: a", "content-length: 1", "Transfer-Encoding: chunked"],
  "another transfer-encoding": [post, "host: a", "transfer-encoding: identity"],
  trailers: [post, "host: a", "trailer: x"],
  "an expectation": [post, "host: a", "expect: 100-continue"],
  "an upgrade": [post, "host: a", "connection: upgrade", "upgrade: h2c"],
  "a last request, to a proxy": [post, "host: a", "proxy-connection: close"],
  "an upgrade by its name alone": [post, "host: a", "upgrade: h2c"],
  "a last request": [post, "host: a", "connection: close"],
  "a header for this connection alone": [post, "host: a", "connection: keep-alive, x-own"],
  "an empty connection header": [post, "host: a", "connection:"],
  "a length with a sign": [post, "host: a", "content-length: +1"],
  "a negative length": [post, "host: a", "content-length: -1"],
  "a length in hexadecimal": [post, "host: a", "content-length: 0x1"],
  "a length with a fraction": [post, "host: a", "content-length: 1.0"],
  "a list of lengths": [post, "host: a", "content-length: 1, 1"],
  "no length where one stands": [post, "host: a", "content-length:"],
  "a large body": [post, "host: a", "content-length: 65537"],
  "a length of many digits": [post, "host: a", "content-length: 000001"],
  "a GET with a body": ["GET /a.B/C?x HTTP/1.1", "host: a", "content-length: 1"],
};
for (const [name, lines] of Object.entries(odd)) {
  test(`not read: ${name}`, () => assert.equal(read(...lines), undefined));
}

test("a long value of spaces is gone through once, whatever comes after it", () => {
  // By the square of its length it would take minutes.
  const spaces = " ".repeat(2 ** 20);
  assert.equal(read(post, "host: a", `x:${spaces}a${spaces}b${spaces}`)?.headers.x, `a${spaces}b`);
  assert.equal(read(post, "host: a", `x:${spaces}\x01`), undefined);
  assert.equal(read(post, "host: a", `x:${spaces}a${spaces}\x01`), undefined);
  assert.equal(read(`POST /${"a".repeat(2 ** 20)}\x01 HTTP/1.1`, "host: a"), undefined);
});

test("a value keeps nothing of the head that it came with", () => {
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc") as () => void;
  const bytes = bytesOf(post, "host: a", "user-agent: a client of some length", `x: ${"x".repeat(15_000)}`);
  collect();
  const before = process.memoryUsage().heapUsed;
  const kept = Array.from({ length: 2000 }, () => readHead(bytes)?.headers["user-agent"]);
  collect();
  const each = (process.memoryUsage().heapUsed - before) / kept.length;
  assert.equal(kept.at(-1), "a client of some length");
  assert.ok(each < 1000, `${each} bytes each`);
});

let port: number;
let last: PromiseWithResolvers<IncomingMessage | "refused">;
const node = createServer((req, res) => {
  res.end();
  last.resolve(req);
});
before(async () => {
  await once(node.listen(0, "127.0.0.1"), "listening");
  port = (node.address() as net.AddressInfo).port;
  node.on("clientError", (error: NodeJS.ErrnoException, socket) => {
    socket.destroy();
    // Others are of a connection before, which the client has cut.
    if (error.code?.startsWith("HPE_")) last.resolve("refused");
  });
});
after(() => node.close());

/** What node:http reads of the same bytes. */
async function readByNode(bytes: Buffer): Promise<IncomingMessage | "refused"> {
  last = Promise.withResolvers();
  const client = net.connect(port, "127.0.0.1");
  client.on("error", () => {});
  client.write(bytes);
  try {
    return await last.promise;
  } finally {
    client.destroy();
  }
}

const text = (charset: string, most: number) =>
  fc.string({ unit: fc.constantFrom(...charset), minLength: 0, maxLength: most });
const visible = String.fromCharCode(...Array.from({ length: 94 }, (_, i) => 0x21 + i));
const controls = String.fromCharCode(0, 1, 8, 9, 10, 11, 12, 13, 27, 31, 32, 127, 128, 160, 233, 255);
const names = fc.oneof(
  fc.constantFrom("host", "Host", "content-length", "Content-Type", "connection", "cookie", "accept", "te"),
  fc.constantFrom("transfer-encoding", "upgrade", "authorization", "x-own", "X_Own", "connect-timeout-ms"),
  text("abcXYZ019-_!#$%&'*+.^`|~", 8),
  text(visible + controls, 4),
);
const values = fc.oneof(
  fc.constantFrom("a", "0", "00", "5", "keep-alive", "close", "chunked", "a.example:80", "Bearer x", ""),
  text(visible, 12),
  text(`${visible}${controls}`, 6),
);
const fields = fc.array(
  fc
    .tuple(names, fc.constantFrom(": ", ":", ":\t", " : ", ""), values, fc.constantFrom("", " ", " \t"))
    .map((parts) => parts.join("")),
  { maxLength: 6 },
);
const lines = fc
  .tuple(
    fc.constantFrom("POST", "GET", "POST", "post", "HEAD", ""),
    fc.oneof(
      fc.constantFrom("/a.B/C", "/a.B/C?x=1", "/", "*"),
      text(visible, 8).map((path) => `/${path}`),
    ),
    fc.constantFrom("HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.0", "HTTP/1.1 ", "HTTP/2.0"),
  )
  .map((parts) => parts.join(" "));
const heads = fc
  .tuple(lines, fields, fc.boolean())
  .map(([line, all, hasHost]) => bytesOf(line, ...(hasHost ? ["host: a"] : []), ...all));

test("whatever is read here, node:http reads alike", async () => {
  let taken = 0;
  await fc.assert(
    fc.asyncProperty(heads, async (bytes) => {
      const end = headEnd(bytes);
      const head = end === 0 ? undefined : readHead(bytes.subarray(0, end));
      if (head === undefined) return;
      taken++;
      const req = await readByNode(bytes.subarray(0, end));
      assert.notEqual(req, "refused");
      if (req === "refused") return;
      const { method, url, headers, rawHeaders, httpVersion } = req;
      assert.deepEqual(
        { method, url, headers, rawHeaders, httpVersion },
        {
          method: head.verb,
          url: head.path,
          headers: head.headers,
          rawHeaders: head.rawHeaders,
          httpVersion: "1.1",
        },
      );
    }),
    { numRuns: 60_000 },
  );
  assert.ok(taken > 500, `only ${taken} of them were read here`);
});

/** What is wrong with a request is told in the words of its protocol, and harms nobody else. */
import assert from "node:assert/strict";
import { connect as connectHttp2, type OutgoingHttpHeaders } from "node:http2";
import { connect as connectTcp } from "node:net";
import { text } from "node:stream/consumers";
import { after, before, test } from "node:test";
import { create, createFileRegistry, type DescService } from "@bufbuild/protobuf";
import { FileDescriptorProtoSchema, file_google_protobuf_wrappers } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { startServer, type TestServer } from "../harness/server.ts";
import { until } from "../harness/until.ts";
import {
  assertAnswers,
  type Bytes,
  collect,
  Fixture,
  fixtureClient,
  protocols,
  startFixture,
} from "./protocols.ts";

let latchkey: TestServer;
before(async () => {
  latchkey = await startFixture({
    unary: ({ value }: Bytes) => ({ value }),
    async *serverStream({ value }: Bytes) {
      yield { value };
    },
  });
});
after(() => latchkey.close());

/** The fixture under another name, or with other methods: what a client believes that the server has. */
function believed(serviceName: string, rename: (method: string) => string): typeof Fixture {
  const proto = Fixture.file.proto;
  const [service] = proto.service;
  const file = create(FileDescriptorProtoSchema, {
    name: "test/believed.proto",
    package: "test",
    syntax: "proto3",
    dependency: proto.dependency,
    service: [
      {
        name: serviceName,
        method: service!.method.map((method) => ({ ...method, name: rename(method.name) })),
      },
    ],
  });
  const registry = createFileRegistry(file, () => file_google_protobuf_wrappers);
  return registry.getService(`test.${serviceName}`) as DescService as typeof Fixture;
}

const unknown = {
  "a service that is not mounted": [believed("Absent", (name) => name), "/test.Absent/Unary"],
  "a method that the service has not": [
    believed("Fixture", (name) => `${name}Absent`),
    "/test.Fixture/UnaryAbsent",
  ],
} as const;

for (const protocol of protocols) {
  for (const [what, [service, path]] of Object.entries(unknown)) {
    test(`over ${protocol.name}, ${what} is unimplemented, and the answer says what to look at`, async () => {
      const methods = Object.values(service.method) as { name: string; localName: string }[];
      const client = createClient(service, protocol.transport(latchkey.url)) as unknown as Record<
        string,
        (input: object) => Promise<unknown> & AsyncIterable<Bytes>
      >;
      const says = (name: string) => (error: unknown) => {
        assert.ok(error instanceof ConnectError);
        assert.equal(Code[error.code], "Unimplemented", error.message);
        const there = path.replace(/Unary(Absent)?$/, name);
        assert.equal(
          error.rawMessage,
          `there is no method ${there}: check the service and method name, or list them by reflection`,
        );
        return true;
      };
      await assert.rejects(client[methods[0]!.localName]!({}), says(methods[0]!.name));
      await assert.rejects(collect(client[methods[1]!.localName]!({})), says(methods[1]!.name));
    });
  }

  test(`over ${protocol.name}, a method that is mounted without an implementation is unimplemented`, async () => {
    const none = async function* () {};
    await assert.rejects(
      fixtureClient(latchkey, protocol).clientStream(none()),
      (error: unknown) => error instanceof ConnectError && error.code === Code.Unimplemented,
    );
  });
}

interface Answer {
  status: number;
  headers: Record<string, unknown>;
  trailers: Record<string, unknown>;
  body: string;
}

/** One request over HTTP/2 with just these headers. */
async function ask(headers: OutgoingHttpHeaders, body?: Uint8Array): Promise<Answer> {
  const session = connectHttp2(latchkey.url);
  try {
    const request = session.request({ ":method": "POST", te: "trailers", ...headers });
    const seen: Record<string, unknown> = {};
    request.on("response", (found) => Object.assign(seen, found));
    const trailers: Record<string, unknown> = {};
    request.on("trailers", (found) => Object.assign(trailers, found));
    request.end(body);
    const answer = await text(request);
    return { body: answer, status: Number(seen[":status"]), headers: seen, trailers };
  } finally {
    session.destroy();
  }
}

test("gRPC's status for a method that does not exist comes in trailers, where its C core looks for it", async () => {
  const answer = await ask(
    { ":path": "/test.Absent/Unary", "content-type": "application/grpc" },
    frame(0, 0),
  );
  assert.deepEqual([answer.status, answer.headers["grpc-status"]], [200, undefined]);
  assert.equal(answer.trailers["grpc-status"], "12");
});

const unary = "/test.Fixture/Unary";
const serverStream = "/test.Fixture/ServerStream";
const frame = (flags: number, length: number, ...data: number[]) =>
  Uint8Array.from([flags, ...Buffer.alloc(4).fill(Buffer.from([0, 0, length >> 8, length & 255])), ...data]);

for (const [title, path, headers, body, expected] of [
  ["a gRPC frame that ends early", unary, { "content-type": "application/grpc" }, frame(0, 100, 1), 3],
  ["half of a gRPC frame's head", unary, { "content-type": "application/grpc" }, Uint8Array.of(0, 0), 3],
  ["a gRPC request without a frame", unary, { "content-type": "application/grpc" }, undefined, 12],
  [
    "two gRPC frames for one message",
    unary,
    { "content-type": "application/grpc" },
    Buffer.concat([frame(0, 0), frame(0, 0)]),
    12,
  ],
  ["a gRPC frame that is no protobuf", unary, { "content-type": "application/grpc" }, frame(0, 1, 0xff), 13],
  [
    "a compressed gRPC frame of no compression",
    unary,
    { "content-type": "application/grpc" },
    frame(1, 0),
    13,
  ],
  [
    "a gRPC frame that is not gzip as it says",
    unary,
    { "content-type": "application/grpc", "grpc-encoding": "gzip" },
    frame(1, 2, 1, 2),
    3,
  ],
  [
    "a gRPC compression that the server has not",
    unary,
    { "content-type": "application/grpc", "grpc-encoding": "zstd" },
    frame(1, 2, 1, 2),
    12,
  ],
  [
    "a gRPC-Web frame that ends early",
    unary,
    { "content-type": "application/grpc-web" },
    frame(0, 100, 1),
    3,
  ],
  [
    "a Connect stream's frame that ends early",
    serverStream,
    { "content-type": "application/connect+proto" },
    frame(0, 100, 1),
    "invalid_argument",
  ],
  [
    "a Connect stream's frame that is no JSON",
    serverStream,
    { "content-type": "application/connect+json" },
    frame(0, 1, 0x7b),
    "invalid_argument",
  ],
  [
    "a Connect body that is no protobuf",
    unary,
    { "content-type": "application/proto" },
    Uint8Array.of(255),
    "internal",
  ],
  [
    "a Connect body that is no JSON",
    unary,
    { "content-type": "application/json" },
    Buffer.from("{"),
    "invalid_argument",
  ],
  [
    "a Connect body that is JSON of another message",
    unary,
    { "content-type": "application/json" },
    Buffer.from('{"a":1}'),
    "invalid_argument",
  ],
  [
    "a Connect body that is not gzip as it says",
    unary,
    { "content-type": "application/json", "content-encoding": "gzip" },
    Buffer.from("{}"),
    "invalid_argument",
  ],
  [
    "a Connect compression that the server has not",
    unary,
    { "content-type": "application/json", "content-encoding": "zstd" },
    Buffer.from("{}"),
    "unimplemented",
  ],
] as const) {
  test(`${title} is answered with ${typeof expected === "number" ? "status " : ""}${expected}, and is logged`, async () => {
    const requestId = `broken-${title.replace(/\W/g, "-")}`;
    const answer = await ask({ ":path": path, "x-request-id": requestId, ...headers }, body);
    if (typeof expected === "string") assert.match(answer.body, new RegExp(`"code":"${expected}"`));
    else {
      const inBody = answer.body.match(/grpc-status: ?(\d+)/)?.[1];
      assert.equal(Number(answer.trailers["grpc-status"] ?? inBody), expected, JSON.stringify(answer));
    }
    const [row] = await until(
      () => latchkey.sql`SELECT code FROM request_logs WHERE request_id = ${requestId}`,
      (rows) => rows.length === 1,
    );
    assert.equal(row?.code, typeof expected === "number" ? expected : codeOf(expected));
  });
}

function codeOf(name: string): number {
  const codes = {
    invalid_argument: Code.InvalidArgument,
    unimplemented: Code.Unimplemented,
    internal: Code.Internal,
  };
  return codes[name as keyof typeof codes];
}

for (const [title, path, headers] of [
  ["no content type", unary, {}],
  ["a content type of no protocol", unary, { "content-type": "text/plain" }],
  ["a content type that is none", unary, { "content-type": "?" }],
  ["an unknown gRPC codec", unary, { "content-type": "application/grpc+thrift" }],
  ["an unknown Connect codec", serverStream, { "content-type": "application/connect+thrift" }],
  ["a stream's content type for a unary method", unary, { "content-type": "application/connect+proto" }],
  ["a unary content type for a stream", serverStream, { "content-type": "application/json" }],
] as const) {
  test(`${title} is answered with 415`, async () => {
    assert.equal((await ask({ ":path": path, ...headers }, Buffer.from("{}"))).status, 415);
  });
}

for (const [verb, path, allowed] of [
  ["PUT", unary, "POST, GET"],
  ["DELETE", unary, "POST, GET"],
  ["GET", serverStream, "POST"],
  ["HEAD", serverStream, "POST"],
  ["OPTIONS", serverStream, "POST"],
] as const) {
  test(`${verb} of ${path} is answered with 405 and the verbs that it takes`, async () => {
    const answer = await ask({ ":method": verb, ":path": path, "content-type": "application/grpc" });
    assert.equal(answer.status, 405);
    assert.equal(answer.headers.allow, allowed);
  });
}

for (const query of [
  "",
  "?connect=v1&encoding=json",
  "?connect=v1&encoding=json&message=%7B",
  "?connect=v1&encoding=proto&base64=1&message=!!!",
  "?connect=v1&encoding=proto&compression=zstd&message=",
  "?connect=v1&encoding=thrift&message=",
  "?connect=v9&encoding=json&message=%22%22",
]) {
  test(`a GET with the query "${query}" is answered by the protocol`, async () => {
    const answer = await ask({ ":method": "GET", ":path": unary + query });
    assert.ok([200, 400, 415, 501].includes(answer.status), `${answer.status}`);
  });
}

for (const message of ["!!!", "C", "C%00AE"]) {
  test(`a GET whose message is "${message}", which is no base64 as it says, is an invalid argument`, async () => {
    const answer = await ask({
      ":method": "GET",
      ":path": `${unary}?connect=v1&encoding=proto&base64=1&message=${message}`,
    });
    assert.equal(answer.status, 400, answer.body);
    assert.equal(JSON.parse(answer.body).code, "invalid_argument");
  });
}

/** What a server answers to bytes as they are, until it closes. */
async function raw(request: string): Promise<string> {
  const socket = connectTcp(latchkey.port, "127.0.0.1");
  socket.end(request);
  return text(socket);
}

const jsonUnary = `POST ${unary} HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 2\r\nConnection: close\r\n`;

for (const [title, request] of [
  ["an HTTP/1.1 request without a Host", `${jsonUnary}\r\n""`],
  ["an HTTP/1.1 request with two Hosts", `${jsonUnary}Host: a\r\nHost: b\r\n\r\n""`],
  ["an HTTP/1.1 request with a Host that is none", `${jsonUnary}Host: a b:c/\r\n\r\n""`],
  ["an HTTP/1.0 request without a Host", `${jsonUnary.replace("HTTP/1.1", "HTTP/1.0")}\r\n""`],
] as const) {
  test(`${title} is answered, with 400 or its result`, async () => {
    assert.match(await raw(request), /^HTTP\/1\.1 (400|200) /);
  });
}

for (const [title, headers] of [
  ["a request target that is no path", { ":path": "*" }],
  ["a path that is no URL", { ":path": "//" }],
  ["a path with a broken escape", { ":path": "/%" }],
  ["an authority that is none", { ":path": unary, ":authority": "a b:c/" }],
] as const) {
  test(`over HTTP/2, ${title} is answered, or its stream is reset`, async () => {
    const answered = ask({ "content-type": "application/json", ...headers }, Buffer.from('""')).then(
      ({ status }) => String(status),
      (error: NodeJS.ErrnoException) => error.code,
    );
    assert.match(String(await answered), /^[24]\d\d$|^ERR_HTTP2_STREAM_ERROR$/);
  });
}

for (const [title, type, body] of [
  ["no JSON", "application/json", "{"],
  ["empty", "application/json", ""],
  ["larger than any message may be", "application/json", "0".repeat(5_000_000)],
  ["of no content type", "?", "{}"],
] as const) {
  test(`a method that does not exist is unimplemented though its body is ${title}`, async () => {
    const path = "/test.Absent/Unary";
    const answer = await ask({ ":path": path, "content-type": type }, Buffer.from(body));
    assert.equal(answer.status, 404);
    assert.equal(JSON.parse(answer.body).code, "unimplemented");
  });
}

for (const [title, trustedProxies, forwarded, expected] of [
  ["believed from a trusted proxy", ["127.0.0.0/8"], "203.0.113.7", "203.0.113.7"],
  [
    "believed no further than the last proxy that is trusted",
    ["127.0.0.1"],
    "6.6.6.6, 203.0.113.7",
    "203.0.113.7",
  ],
  ["followed through trusted proxies", ["127.0.0.1", "10.0.0.0/8"], "203.0.113.7, 10.1.2.3", "203.0.113.7"],
  ["believed when it is IPv6", ["127.0.0.1"], "2001:db8::7", "2001:db8::7"],
  ["not believed without trusted proxies", [], "203.0.113.7", "127.0.0.1"],
  ["not believed from another address than a trusted proxy's", ["10.0.0.0/8"], "203.0.113.7", "127.0.0.1"],
  ["not taken for an address when it is none", ["127.0.0.1"], "unknown", "127.0.0.1"],
  ["read without the port that some proxies add", ["127.0.0.1"], "203.0.113.7:1234", "203.0.113.7"],
  ["read without the brackets of IPv6", ["127.0.0.1"], "[2001:db8::7]:1234", "2001:db8::7"],
  ["not taken for an address when it is a host's name", ["127.0.0.1"], "localhost", "127.0.0.1"],
  ["not taken for an address when it is empty", ["127.0.0.1"], "", "127.0.0.1"],
  ["read without a zone", ["127.0.0.1"], "fe80::1%eth0", "fe80::1"],
] as const) {
  test(`x-forwarded-for is ${title}`, async () => {
    const server = await startServer({ trustedProxies: [...trustedProxies] });
    try {
      await server.asStaff.users.getUser({ userId: 1n }, { headers: { "x-forwarded-for": forwarded } });
      const { requestLogs } = await until(
        () => server.asStaff.logs.listRequestLogs({ filter: { method: "GetUser" } }),
        (found) => found.requestLogs.length === 1,
      );
      assert.equal(requestLogs[0]?.peerAddress, expected);
    } finally {
      await server.close();
    }
  });
}

test("after all of it the server answers", () => assertAnswers(latchkey));

/**
 * Requests that RFC 9113 calls malformed (section 8.1.1) end their stream with PROTOCOL_ERROR and reach
 * no handler; their connection lives.
 */
import assert from "node:assert/strict";
import { flag } from "../../faults/frames.ts";
import { data, headers } from "./connection.ts";
import type { Fields } from "./hpack.ts";
import { assertServes, connect, grpc, grpcAnswered, grpcMessage, message, servedBothWays } from "./served.ts";

const bothWays = servedBothWays();

const without = (fields: Fields, name: string): Fields => fields.filter(([each]) => each !== name);
const replaced = (fields: Fields, name: string, value: string): Fields =>
  fields.map((field) => (field[0] === name ? [name, value] : field));

const good = connect();
const [method, scheme, path, authority, ...regular] = good;

type Frames = (stream: number, body: Uint8Array) => Uint8Array[];

/** A call whose headers are these and whose body is as it should be. */
const withHeaders =
  (fields: Fields): Frames =>
  (stream, body) => [headers(stream, fields), data(stream, body, flag.endStream)];

/** A call whose content-length is not the length of its body by so many bytes. */
const withLength =
  (more: number, pieces: (stream: number, body: Uint8Array) => Uint8Array[]): Frames =>
  (stream, body) => [
    headers(stream, [...good, ["content-length", String(body.length + more)]]),
    ...pieces(stream, body),
  ];

const whole = (stream: number, body: Uint8Array) => [data(stream, body, flag.endStream)];
const halves = (stream: number, body: Uint8Array) => [
  data(stream, body.subarray(0, 4)),
  data(stream, body.subarray(4), flag.endStream),
];

/** A call that ends with these trailers. */
const withTrailers =
  (fields: Fields, flags = flag.endHeaders | flag.endStream): Frames =>
  (stream, body) => [headers(stream, good), data(stream, body), headers(stream, fields, flags)];

const malformed: Record<string, Frames> = {
  "a name in upper case": withHeaders([...good, ["X-Upper", "1"]]),
  connection: withHeaders([...good, ["connection", "close"]]),
  "keep-alive": withHeaders([...good, ["keep-alive", "timeout=5"]]),
  "proxy-connection": withHeaders([...good, ["proxy-connection", "keep-alive"]]),
  "transfer-encoding": withHeaders([...good, ["transfer-encoding", "chunked"]]),
  upgrade: withHeaders([...good, ["upgrade", "websocket"]]),
  "te other than trailers": withHeaders([...good, ["te", "gzip"]]),
  "no :method": withHeaders(without(good, ":method")),
  "no :scheme": withHeaders(without(good, ":scheme")),
  "no :path": withHeaders(without(good, ":path")),
  "an empty :path": withHeaders(replaced(good, ":path", "")),
  "a relative :path": withHeaders(replaced(good, ":path", "test.Fixture/Unary")),
  "an empty :method": withHeaders(replaced(good, ":method", "")),
  "two :method": withHeaders([method!, ...good]),
  "two :scheme": withHeaders([scheme!, ...good]),
  "two :path": withHeaders([path!, ...good]),
  "two :authority": withHeaders([authority!, ...good]),
  "an unknown pseudo-header": withHeaders([[":color", "red"], ...good]),
  "a pseudo-header of responses": withHeaders([[":status", "200"], ...good]),
  "a pseudo-header after a field": withHeaders([method!, scheme!, path!, ...regular, authority!]),
  ":protocol without extended CONNECT": withHeaders([[":protocol", "websocket"], ...good]),
  "no field at all": withHeaders([]),
  "content-length that is no number": withHeaders([...good, ["content-length", "five"]]),
  "content-length below 0": withHeaders([...good, ["content-length", "-5"]]),
  "two unlike content-length": withHeaders([...good, ["content-length", "7"], ["content-length", "8"]]),
  "a body above content-length": withLength(-1, whole),
  "a body in pieces above content-length": withLength(-1, halves),
  "a body below content-length": withLength(1, whole),
  "a body in pieces below content-length": withLength(1, halves),
  "content-length and no body": (stream) => [
    headers(stream, [...good, ["content-length", "7"]], flag.endHeaders | flag.endStream),
  ],
  "a body below content-length, and trailers": withLength(1, (stream, body) => [
    data(stream, body),
    headers(stream, [["x-trailer", "1"]], flag.endHeaders | flag.endStream),
  ]),
  "a pseudo-header in trailers": withTrailers([[":path", "/"]]),
  "a name in upper case in trailers": withTrailers([["X-Upper", "1"]]),
  "connection in trailers": withTrailers([["connection", "close"]]),
  "a second block that ends nothing": withTrailers([["x-trailer", "1"]], flag.endHeaders),
};

/** Of these, Node makes an error of the whole connection, with a code of its own: harsher than need be. */
const harsher = /^a body (in pieces )?above content-length$/;

for (const [name, frames] of Object.entries(malformed)) {
  bothWays(`${name} resets the stream, reaches nobody, and leaves the connection`, async (t, served) => {
    const connection = served.open(t);
    const stream = connection.newStream();
    connection.send(...frames(stream, message(name)));
    const outcome = await connection.outcome(stream);
    assert.equal(connection.soFar(stream).status, undefined);
    assert.ok(!served.reached.has(name));
    if (harsher.test(name) && outcome === "GOAWAY INTERNAL_ERROR") return;
    assert.equal(outcome, "RST_STREAM PROTOCOL_ERROR");
    await assertServes(connection);
  });
}

/**
 * Malformed too by section 8.2.1; nghttp2 leaves such a field out and serves the request. Either is
 * safe: nobody is given the field.
 */
const invalid: Record<string, readonly [name: string, value: string]> = {
  "a name with a space": ["x upper", "1"],
  "an empty name": ["", "1"],
  "a name with a colon": ["x-a:y", "1"],
  "a name above ASCII": ["x-\u00e9", "1"],
  "a value with a line feed": ["x-lines", "a\nb"],
  "a value with a carriage return": ["x-lines", "a\rb"],
  "a value with NUL": ["x-nul", "a\0b"],
  "a value with DEL": ["x-del", "a\x7fb"],
  "a value that starts with a space": ["x-space", " a"],
  "a value that ends with a tab": ["x-space", "a\t"],
};

for (const [name, field] of Object.entries(invalid)) {
  bothWays(`${name} resets the stream, or is given to nobody`, async (t, served) => {
    const connection = served.open(t);
    const stream = connection.newStream();
    const fields = [...grpc(), field, ["x-good", "1"] as const];
    connection.send(headers(stream, fields), data(stream, grpcMessage("headers"), flag.endStream));
    const outcome = await connection.outcome(stream);
    if (outcome !== "RST_STREAM PROTOCOL_ERROR") {
      const [seen] = grpcAnswered(await connection.answer(stream));
      assert.equal(seen, '[["x-good","1"]]');
    }
    await assertServes(connection);
  });
}

/** Requests as RFC 9113, sections 8.2 and 8.3 want them, and what is said of others. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { HeaderDecoder } from "../../src/http2/hpack/decoder.ts";
import { type Field, literals } from "./hpack-writer.ts";

const method: Field = [":method", "POST"];
const scheme: Field = [":scheme", "https"];
const path: Field = [":path", "/a.B/C?d=e"];
const authority: Field = [":authority", "example.com:8443"];
const usual = [method, scheme, path, authority];
const connect: Field = [":method", "CONNECT"];
const options: Field = [":method", "OPTIONS"];
const asterisk: Field = [":path", "*"];

function decode(fields: readonly Field[], isTrailer = false) {
  const decoder = new HeaderDecoder({ maxTableBytes: 4096, maxListBytes: 65_536 });
  const block = literals(fields);
  return isTrailer ? decoder.decodeTrailers(block, 0, block.length) : decoder.decode(block, 0, block.length);
}

const wellFormed: Record<string, readonly Field[]> = {
  usual,
  "pseudo-header fields in another order": [authority, path, scheme, method],
  "a method of one's own": [[":method", "M-SEARCH"], scheme, path, authority],
  "host alone": [method, scheme, path, ["host", "[::1]:80"]],
  "host beside :authority": [...usual, ["host", "example.com:8443"]],
  "an authority of a path of a socket": [method, scheme, path, [":authority", "%2Ftmp%2Fa.sock"]],
  CONNECT: [connect, authority],
  "OPTIONS of the server": [options, scheme, asterisk, authority],
  "OPTIONS of a path": [options, scheme, path, authority],
  "another scheme, without authority": [method, [":scheme", "coap+tcp"], [":path", "a"]],
  "te: trailers": [...usual, ["te", "trailers"]],
  "te: Trailers": [...usual, ["te", "Trailers"]],
  "an empty value": [...usual, ["a", ""]],
  "octets above ASCII": [...usual, ["a", "\x80\xff"]],
  "whitespace within a value": [...usual, ["a", "b \t c"]],
  "every character of a name": [...usual, ["!#$%&'*+-.^_`|~09az", "a"]],
  "fields that come twice": [...usual, ["a", "1"], ["a", "2"], ["cookie", "a"], ["cookie", "b"]],
  content: [...usual, ["content-length", "0"]],
  "the name of what all objects have": [...usual, ["__proto__", "a"], ["constructor", "b"]],
};

for (const [name, fields] of Object.entries(wellFormed)) {
  test(`well-formed: ${name}`, () => {
    const { malformed, rawHeaders, bytes } = decode(fields);
    assert.equal(malformed, undefined);
    assert.deepEqual(rawHeaders, fields.flat());
    assert.equal(
      bytes,
      fields.reduce((sum, field) => sum + field[0].length + field[1].length + 32, 0),
    );
  });
}

const value = "a field value with a control character, or with whitespace at either end";
const malformed: [name: string, fields: readonly Field[], said: string][] = [
  ["nothing", [], "no :method"],
  ["no :method", [scheme, path, authority], "no :method"],
  ["no :scheme", [method, path, authority], "no :scheme"],
  ["no :path", [method, scheme, authority], "no :path"],
  ["no authority", [method, scheme, path], "neither :authority nor host"],
  ["no authority over http", [method, [":scheme", "HTTP"], path], "neither :authority nor host"],
  [":method twice", [method, method, scheme, path, authority], ":method more than once"],
  [":scheme twice", [method, scheme, scheme, path, authority], ":scheme more than once"],
  [":path twice", [method, scheme, path, path, authority], ":path more than once"],
  [":authority twice", [...usual, authority], ":authority more than once"],
  ["host twice", [...usual, ["host", "a"], ["host", "a"]], "host more than once"],
  [
    "content-length twice",
    [...usual, ["content-length", "1"], ["content-length", "1"]],
    "content-length more than once",
  ],
  [
    "a pseudo-header field last",
    [method, scheme, path, ["a", "b"], authority],
    ":authority after a field that is no pseudo-header field",
  ],
  [
    "a pseudo-header field after host",
    [method, scheme, path, ["host", "a"], authority],
    ":authority after a field that is no pseudo-header field",
  ],
  ["an unknown pseudo-header field", [...usual, [":color", "a"]], "an unknown pseudo-header field"],
  ["one of answers", [...usual, [":status", "200"]], "an unknown pseudo-header field"],
  [
    "extended CONNECT, which is not offered",
    [connect, [":protocol", "websocket"], authority],
    "an unknown pseudo-header field",
  ],
  ["a colon alone", [...usual, [":", "a"]], "an unknown pseudo-header field"],
  ["an empty :method", [[":method", ""], scheme, path, authority], ":method that is no token"],
  ["a :method with a space", [[":method", "GET /"], scheme, path, authority], ":method that is no token"],
  ["an empty :scheme", [method, [":scheme", ""], path, authority], ":scheme that is none"],
  ["a :scheme with a colon", [method, [":scheme", "http:"], path, authority], ":scheme that is none"],
  ["an empty :path", [method, scheme, [":path", ""], authority], "an empty :path"],
  ["a :path with a space", [method, scheme, [":path", "/a HTTP/1.1"], authority], ":path with whitespace"],
  ["a :path with a tab", [method, scheme, [":path", "/a\tb"], authority], ":path with whitespace"],
  ["a :path without slash", [method, scheme, [":path", "a"], authority], ":path that does not start with /"],
  ["a URI as :path", [method, scheme, [":path", "http://a/"], authority], ":path that does not start with /"],
  ["* but not OPTIONS", [method, scheme, asterisk, authority], ":path that does not start with /"],
  ["an empty :authority", [method, scheme, path, [":authority", ""]], "an empty :authority"],
  [
    "a user in :authority",
    [method, scheme, path, [":authority", "a@b"]],
    ":authority that is no host with or without port",
  ],
  [
    "a path in :authority",
    [method, scheme, path, [":authority", "a/b"]],
    ":authority that is no host with or without port",
  ],
  ["an empty host", [...usual, ["host", ""]], "an empty host"],
  ["a host with a space", [...usual, ["host", "a b"]], "host that is no host with or without port"],
  ["CONNECT with :scheme", [connect, scheme, authority], "CONNECT with :scheme or :path"],
  ["CONNECT with :path", [connect, path, authority], "CONNECT with :scheme or :path"],
  ["CONNECT to nowhere", [connect], "CONNECT without :authority"],
  ["CONNECT to a host", [connect, ["host", "a"]], "CONNECT without :authority"],
  ["an upper-case name", [...usual, ["Accept", "a"]], "a field name with upper-case letters"],
  ["an empty name", [...usual, ["", "a"]], "a field name that is no token"],
  ["a name with a space", [...usual, ["a b", "a"]], "a field name that is no token"],
  ["a name with a colon", [...usual, ["a:b", "a"]], "a field name that is no token"],
  ["a name with NUL", [...usual, ["a\0", "a"]], "a field name that is no token"],
  ["a name above ASCII", [...usual, ["\xe9", "a"]], "a field name that is no token"],
  ...["\0", "\r", "\n", "\x01", "\x1f", "\x7f"].map((bad): [string, Field[], string] => [
    `a value with octet ${bad.charCodeAt(0)}`,
    [...usual, ["a", `b${bad}c`]],
    value,
  ]),
  ...[" a", "a ", "\ta", "a\t", " ", "\t"].map((bad): [string, Field[], string] => [
    `a value ${JSON.stringify(bad)}`,
    [...usual, ["a", bad]],
    value,
  ]),
  ["a :path with LF", [method, scheme, [":path", "/\n"], authority], value],
  ...["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"].map(
    (name): [string, Field[], string] => [
      name,
      [...usual, [name, "a"]],
      `the connection-specific field ${name}`,
    ],
  ),
  ["te: gzip", [...usual, ["te", "gzip"]], "te other than trailers"],
  ["te: trailers and more", [...usual, ["te", "trailers, gzip"]], "te other than trailers"],
  ["an empty content-length", [...usual, ["content-length", ""]], "content-length that is no number"],
  ["a signed content-length", [...usual, ["content-length", "+1"]], "content-length that is no number"],
  ["two in a content-length", [...usual, ["content-length", "1, 1"]], "content-length that is no number"],
  [
    "the first of several things",
    [...usual, ["A", "b"], ["te", "gzip"], method],
    "a field name with upper-case letters",
  ],
];

for (const [name, fields, said] of malformed) {
  test(`malformed: ${name}`, () => {
    const block = decode(fields);
    assert.equal(block.malformed, said);
    assert.deepEqual(block.rawHeaders, fields.flat());
  });
}

test("trailers have no pseudo-header fields, and are otherwise held to the same rules", () => {
  assert.equal(decode([], true).malformed, undefined);
  assert.equal(decode([["grpc-status", "0"]], true).malformed, undefined);
  for (const pseudo of usual) {
    assert.equal(decode([pseudo], true).malformed, "a pseudo-header field among trailers");
  }
  assert.equal(decode([[":status", "200"]], true).malformed, "an unknown pseudo-header field");
  assert.equal(decode([["A", "b"]], true).malformed, "a field name with upper-case letters");
  assert.equal(decode([["a", "b\n"]], true).malformed, value);
  assert.equal(decode([["upgrade", "a"]], true).malformed, "the connection-specific field upgrade");
});

test("a field is judged the same wherever it is read from", () => {
  const decoder = new HeaderDecoder({ maxTableBytes: 4096, maxListBytes: 65_536 });
  // "te: gzip" with indexing, and then by its index.
  const literal = Buffer.from([
    0x83,
    0x87,
    0x84,
    0x41,
    1,
    0x61,
    0x40,
    2,
    ...Buffer.from("te"),
    4,
    ...Buffer.from("gzip"),
  ]);
  const indexed = Buffer.from([0x83, 0x87, 0x84, 0xbf, 0xbe]);
  assert.equal(decoder.decode(literal, 0, literal.length).malformed, "te other than trailers");
  for (let i = 0; i < 3; i++) {
    assert.equal(decoder.decode(indexed, 0, indexed.length).malformed, "te other than trailers");
  }
  assert.equal(decoder.decodeTrailers(indexed, 4, 5).malformed, "te other than trailers");
  // What a request may have is no trailer for having been seen before.
  assert.equal(decoder.decode(indexed, 0, 4).malformed, undefined);
  assert.equal(decoder.decodeTrailers(indexed, 0, 4).malformed, "a pseudo-header field among trailers");
});

test("fields with whitespace around their values are left out, where that is asked for", () => {
  const decoder = new HeaderDecoder({ maxTableBytes: 4096, maxListBytes: 65_536, dropsPadded: true });
  const padded = [" a", "a ", "\ta", "a\t", " ", "\t"].map((value): Field => ["x-padded", value]);
  const kept: Field[] = [...usual, ["x-kept", "a b"], ["x-nbsp", "\xa0a\xa0"]];
  const block = literals([...usual, ...padded, ...kept.slice(usual.length)]);
  const { rawHeaders, malformed } = decoder.decode(block, 0, block.length);
  assert.deepEqual(rawHeaders, kept.flat());
  assert.equal(malformed, undefined);
  for (const bad of [
    ["x-control", " a\0"],
    ["host", " a"],
    ["content-length", "5 "],
    ["X-Upper", " a"],
  ] as const) {
    const list = literals([...usual, bad]);
    assert.notEqual(decoder.decode(list, 0, list.length).malformed, undefined, bad[0]);
  }
});

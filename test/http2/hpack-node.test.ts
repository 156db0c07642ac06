/** Both sides of HPACK against those of node:http2, over sockets. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { type ClientHttp2Session, connect, constants, createServer, sensitiveHeaders } from "node:http2";
import type { AddressInfo } from "node:net";
import { test } from "node:test";
import fc from "fast-check";
import { HeaderDecoder } from "../../src/http2/hpack/decoder.ts";
import { HeaderEncoder } from "../../src/http2/hpack/encoder.ts";
import type { HeaderBlock } from "../../src/http2/hpack/header-block.ts";
import { huffmanCodeLengths, staticTable } from "../../src/http2/hpack/tables.ts";
import {
  dial,
  endStream,
  frame,
  frameTypes,
  headers,
  listen,
  preface,
  readBlocks,
  readFrames,
} from "./frames.ts";
import { type Field, huffman, literals, type Manner, Writer } from "./hpack-writer.ts";

const headerTableSize = 0x1;
const noSettings = frame(frameTypes.settings, 0, 0);
const acknowledged = 0x1;
const settingsAcknowledged = frame(frameTypes.settings, acknowledged, 0);
/** What is shared over the runs of a property is out of step once one has failed. */
const untilFailure = { endOnFailure: true };

/** A client of node:http2, and the header blocks of its requests as the server of this test gets them. */
async function nodeClient(
  onBlock: (streamId: number, block: Buffer, answer: (bytes: Buffer) => void) => void,
  onSettings: (payload: Buffer) => void = () => {},
) {
  const server = await listen((socket) => {
    socket.write(noSettings);
    const readBlock = readBlocks((streamId, block) =>
      onBlock(streamId, block, (bytes) => socket.write(bytes)),
    );
    readFrames(socket, preface.length, (frame) => {
      readBlock(frame);
      if (frame.type !== frameTypes.settings || (frame.flags & acknowledged) !== 0) return;
      onSettings(frame.payload);
      socket.write(settingsAcknowledged);
    });
  });
  const session = connect(`http://127.0.0.1:${server.port}`);
  session.on("error", () => {});
  return {
    session,
    async [Symbol.asyncDispose]() {
      session.destroy();
      await server[Symbol.asyncDispose]();
    },
  };
}

interface Answer {
  readonly headers: Record<string, unknown>;
  readonly rawHeaders: string[];
}

async function request(
  session: ClientHttp2Session,
  fields: Record<string, string | string[]>,
): Promise<Answer> {
  const stream = session.request({ ":path": "/", ...fields }, { endStream: true });
  const [headers, , rawHeaders] = await once(stream, "response");
  stream.resume();
  return { headers, rawHeaders };
}

/** Raw blocks to a server of node:http2, which tells what its listener of 'stream' gets. */
async function nodeServer() {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const got: Answer[] = [];
  let wake = () => {};
  server.on("stream", (stream, headers, _flags, rawHeaders: string[]) => {
    stream.on("error", () => {});
    stream.respond({ ":status": 204 }, { endStream: true });
    got.push({ headers, rawHeaders });
    wake();
  });
  server.on("sessionError", () => {});
  const socket = await dial((server.address() as AddressInfo).port);
  let isRefused = false;
  socket.write(Buffer.concat([preface, noSettings]));
  readFrames(socket, 0, ({ type }) => {
    if (type === frameTypes.goaway || type === frameTypes.resetStream) isRefused = true;
    wake();
  });
  let streamId = -1;
  return {
    /** Undefined: it refuses it. */
    async send(block: Uint8Array): Promise<Answer | undefined> {
      isRefused = false;
      streamId += 2;
      socket.write(headers(streamId, block, endStream));
      while (got.length === 0 && !isRefused) await new Promise<void>((resolve) => (wake = resolve));
      return got.shift();
    },
    async [Symbol.asyncDispose]() {
      socket.destroy();
      server.close();
      await once(server, "close");
    },
  };
}

const usual: Field[] = [
  [":method", "POST"],
  [":scheme", "http"],
  [":path", "/"],
  [":authority", "a"],
];
const value = fc
  .array(
    fc.oneof(
      { weight: 8, arbitrary: fc.integer({ min: 0x21, max: 0x7e }) },
      fc.constantFrom(0x20, 0x09),
      fc.integer({ min: 0x80, max: 0xff }),
    ),
    { maxLength: 40 },
  )
  .map((octets) => String.fromCharCode(...octets).replace(/^[\t ]+|[\t ]+$/g, ""));

const names = [
  ...["accept", "authorization", "content-type", "cookie", "user-agent", "x-a", "grpc-timeout", "a"],
  ...["set-cookie", "etag", "age", "range", "x-content-type-options", "dnt", "referer", "vary", "via"],
  ...["access-control-max-age", "access-control-allow-credentials", "access-control-allow-origin", "allow"],
  ...["content-md5", "content-range", "date", "expires", "from", "if-match", "if-none-match", "if-range"],
  ...["if-modified-since", "if-unmodified-since", "last-modified", "location", "max-forwards", "tk"],
  ...["proxy-authorization", "retry-after", "upgrade-insecure-requests", "content-encoding", "warning"],
  ...["content-language", "content-location", "access-control-request-method", "expect", "origin"],
  ...["__proto__", "constructor", "tostring", "!#$%&'*+-.^_`|~"],
];
const name = fc.oneof(fc.constantFrom(...names), fc.constantFrom("cookie", "x-a", "set-cookie", "age"));
const manner: fc.Arbitrary<Manner> = fc.record({
  as: fc.constantFrom("indexed", "indexed", "incremental", "without", "never"),
  isHuffman: fc.boolean(),
  spellsName: fc.boolean(),
});
const pseudo = fc
  .tuple(fc.constantFrom("GET", "POST", "OPTIONS", "X-A"), fc.constantFrom("http", "https"), value)
  .map(([method, scheme, query]): Field[] => [
    [":method", method],
    [":scheme", scheme],
    [":path", `/a?${query.replace(/[\t ]/g, "")}`],
    [":authority", "example.com"],
  ]);
const regular = fc.array(fc.tuple(name, fc.oneof(value, fc.constantFrom("", "a", "b"))), { maxLength: 25 });

test("every octet that a value may have is decoded as node:http2 encodes it, and coded as it does", async () => {
  const legal = [0x09, ...Array.from({ length: 224 }, (_, i) => i + 0x20)].filter((octet) => octet !== 0x7f);
  const decoder = new HeaderDecoder({ maxTableBytes: 4096, maxListBytes: 65_536 });
  const blocks: Buffer[] = [];
  await using client = await nodeClient((streamId, block, answer) => {
    blocks.push(block);
    answer(headers(streamId, Buffer.of(0x88), endStream));
  });
  for (const octet of legal) {
    // Short codes before and after it, for the whole to be worth coding.
    const text = `${"a".repeat(60)}${String.fromCharCode(octet).repeat(5)}b`;
    await request(client.session, { "set-cookie": [text] });
    const block = blocks.pop()!;
    const { rawHeaders } = decoder.decode(block, 0, block.length);
    assert.equal(rawHeaders.at(-1), text, `octet ${octet}`);
    assert.notEqual(block.indexOf(Buffer.from(huffman(text))), -1, `octet ${octet}`);
  }
});

test("the codes of octets that no value may have are those of RFC 7541, appendix B", () => {
  const lengths: Record<number, number> = { 0: 13, 1: 23, 9: 24, 10: 30, 13: 30, 22: 30, 127: 28, 256: 30 };
  for (let symbol = 0; symbol < 32; symbol++) {
    assert.equal(huffmanCodeLengths[symbol], lengths[symbol] ?? 28, `octet ${symbol}`);
  }
  assert.equal(huffmanCodeLengths[127], lengths[127]);
  assert.equal(huffmanCodeLengths[256], lengths[256]);
  const codes: [octet: number, bits: string][] = [
    [0, "1111111111000"],
    [1, "11111111111111111011000"],
    [2, "1111111111111111111111100010"],
    [10, "111111111111111111111111111100"],
    [13, "111111111111111111111111111101"],
    [22, "111111111111111111111111111110"],
    [127, "1111111111111111111111111100"],
  ];
  for (const [octet, bits] of codes) {
    const coded = huffman(String.fromCharCode(octet));
    const found = coded.map((part) => part.toString(2).padStart(8, "0")).join("");
    assert.ok(found.startsWith(bits), `octet ${octet}: ${found}`);
  }
});

test("every entry of the static table is that of node:http2", async () => {
  await using server = await nodeServer();
  const decoder = new HeaderDecoder({ maxTableBytes: 4096, maxListBytes: 65_536 });
  for (const [i, [name]] of staticTable.entries()) {
    if (name === ":status" || name === "transfer-encoding") continue;
    const index = i + 1;
    // In turn: :method, :scheme, :path, :authority and what is as it is in the table, but for two that may not be empty.
    const block = Buffer.of(
      name === ":method" ? 0x80 | index : 0x83,
      name === ":scheme" ? 0x80 | index : 0x87,
      name === ":path" ? 0x80 | index : 0x84,
      ...[0x41, 1, 0x61],
      ...(name.startsWith(":")
        ? []
        : ["host", "content-length"].includes(name)
          ? [0x40 | index, 1, 0x30]
          : [0x80 | index]),
    );
    const got = await server.send(block);
    assert.ok(got, name);
    assert.deepEqual(decoder.decode(block, 0, block.length).rawHeaders, got.rawHeaders, name);
  }
  const answers: Buffer[] = [];
  await using client = await nodeClient((streamId, _, answer) => {
    answer(headers(streamId, answers.shift()!, endStream));
  });
  for (const [i, [name, status]] of staticTable.entries()) {
    if (name !== ":status") continue;
    const block = Buffer.of(0x80 | (i + 1));
    answers.push(block);
    const { rawHeaders } = await request(client.session, {});
    assert.deepEqual(rawHeaders, [name, status]);
    assert.deepEqual(decoder.decode(block, 0, block.length).rawHeaders, rawHeaders);
  }
});

test("what a client of node:http2 sends is decoded, whatever it sent before", async () => {
  const decoder = new HeaderDecoder({ maxTableBytes: 4096, maxListBytes: 65_536 });
  const lists: string[][] = [];
  await using client = await nodeClient((streamId, block, answer) => {
    const { rawHeaders, malformed } = decoder.decode(block, 0, block.length);
    assert.equal(malformed, undefined);
    lists.push([...rawHeaders]);
    answer(headers(streamId, Buffer.of(0x88), endStream));
  });
  await fc.assert(
    fc.asyncProperty(
      fc.array(
        fc.dictionary(
          fc.constantFrom(...names.filter((name) => !["__proto__", "host"].includes(name))),
          value,
          { noNullPrototype: true },
        ),
        { minLength: 1, maxLength: 5 },
      ),
      async (requests) => {
        for (const fields of requests) {
          await request(client.session, fields);
          const authority = `127.0.0.1:${client.session.socket.remotePort}`;
          const sent = [":path", "/", ...Object.entries(fields).flat(), ":authority", authority];
          assert.deepEqual(pairs(lists.pop()!), pairs([...sent, ":scheme", "http", ":method", "GET"]));
        }
      },
    ),
    { numRuns: 150, ...untilFailure },
  );
});

test("a block of a client of node:http2 that needs CONTINUATION frames is decoded", async () => {
  const decoder = new HeaderDecoder({ maxTableBytes: 4096, maxListBytes: 100_000 });
  const lists: HeaderBlock[] = [];
  await using client = await nodeClient((streamId, block, answer) => {
    assert.ok(block.length > 16_384);
    lists.push(decoder.decode(block, 0, block.length));
    answer(headers(streamId, Buffer.of(0x88), endStream));
  });
  const fields = Object.fromEntries(
    Array.from({ length: 40 }, (_, i) => [`x-field-${i}`, `${i} `.repeat(300).trim()]),
  );
  await request(client.session, fields);
  assert.deepEqual(lists[0]!.rawHeaders.slice(8), Object.entries(fields).flat());
});

test("headers are as a listener of node:http2 gets them for the same octets", async () => {
  await using server = await nodeServer();
  const decoder = new HeaderDecoder({ maxTableBytes: 4096, maxListBytes: 65_536 });
  const writer = new Writer();
  let compared = 0;
  await fc.assert(
    fc.asyncProperty(
      fc.array(
        fc.tuple(
          pseudo,
          regular,
          fc.array(manner, { minLength: 1, maxLength: 30 }),
          fc.option(fc.nat({ max: 4096 }), { freq: 5 }),
        ),
        { minLength: 1, maxLength: 4 },
      ),
      async (requests) => {
        for (const [first, then, manners, size] of requests) {
          const resized = size === null ? [] : writer.resize(size);
          const block = Buffer.concat([
            Buffer.from(resized),
            writer.block([...first, ...then].map((field, i) => [field, manners[i % manners.length]!])),
          ]);
          const got = await server.send(block);
          assert.ok(got, "node:http2 takes it");
          const list = decoder.decode(block, 0, block.length);
          assert.equal(list.malformed, undefined);
          assert.deepEqual(list.rawHeaders, got.rawHeaders);
          assert.deepStrictEqual(list.headers, got.headers);
          assert.deepEqual(
            (list.headers as Record<symbol, unknown>)[sensitiveHeaders],
            (got.headers as Record<symbol, unknown>)[sensitiveHeaders],
          );
          assert.equal(list.headers, list.headers, "the same object each time");
          compared++;
        }
      },
    ),
    { numRuns: 200, ...untilFailure },
  );
  assert.ok(compared > 200);
});

test("of each name that comes twice, headers are as a listener of node:http2 gets them", async () => {
  await using server = await nodeServer();
  const decoder = new HeaderDecoder({ maxTableBytes: 4096, maxListBytes: 65_536 });
  // Of all names that node:http2 knows, and of what is not told apart from them by mistake.
  const known = Object.values(constants).filter((value) => typeof value === "string");
  const names = [...known, "x-a", "__proto__", "constructor"].filter((name) => /^[a-z_-]+$/.test(name));
  let compared = 0;
  for (const name of names) {
    const twice: Field[] = [
      [name, "trailers"],
      [name, "trailerS"],
    ];
    const block = literals([...usual, ...twice]);
    const { malformed, headers } = decoder.decode(block, 0, block.length);
    const got = await server.send(block);
    assert.equal(malformed === undefined, got !== undefined, name);
    if (got === undefined) continue;
    assert.deepStrictEqual(headers, got.headers, name);
    compared++;
  }
  assert.ok(compared > 60, `${compared}`);
});

test("what is malformed to node:http2 is malformed here, and nothing else is", async () => {
  const odd = fc.oneof(
    fc.constantFrom<Field>(
      [":method", "GET"],
      [":authority", ""],
      [":authority", "a b"],
      [":path", "*"],
      [":path", ""],
      [":scheme", "https"],
      [":status", "200"],
      [":protocol", "websocket"],
      [":method", "CONNECT"],
      [":method", "OPTIONS"],
      ["host", "b"],
      ["host", ""],
      ["content-length", "0"],
      ["content-length", "x"],
      ["te", "trailers"],
      ["te", "gzip"],
      ["connection", "close"],
      ["upgrade", "h2c"],
      ["keep-alive", "1"],
      ["proxy-connection", "a"],
      ["transfer-encoding", "chunked"],
    ),
    fc.tuple(fc.constantFrom("x-a", "cookie"), value),
  );
  await fc.assert(
    fc.asyncProperty(
      fc.tuple(fc.subarray(usual, { minLength: 2 }), fc.array(odd, { maxLength: 4 })),
      async ([some, more]) => {
        await using server = await nodeServer();
        const block = literals([...some, ...more]);
        const { malformed } = new HeaderDecoder({ maxTableBytes: 4096, maxListBytes: 65_536 }).decode(
          block,
          0,
          block.length,
        );
        const got = await server.send(block);
        assert.equal(malformed === undefined, got !== undefined, malformed ?? "well-formed");
      },
    ),
    { numRuns: 100 },
  );
});

const parts: Record<string, (octet: string) => Field> = {
  "a :method": (octet) => [":method", `A${octet}B`],
  "a :scheme": (octet) => [":scheme", `a${octet}b`],
  "a :path": (octet) => [":path", `/a${octet}b`],
  "an :authority": (octet) => [":authority", `a${octet}b`],
  "a host": (octet) => ["host", `a${octet}b`],
  "a name": (octet) => [`a${octet}b`, "a"],
  "a value": (octet) => ["a", `b${octet}c`],
};

for (const [part, create] of Object.entries(parts)) {
  test(`${part} may have the octets that it may have to node:http2`, async () => {
    await using server = await nodeServer();
    const decoder = new HeaderDecoder({ maxTableBytes: 4096, maxListBytes: 65_536 });
    for (let octet = 0; octet < 256; octet++) {
      const field = create(String.fromCharCode(octet));
      const others = usual.filter(([name]) => name !== field[0]);
      const fields = field[0].startsWith(":") ? [field, ...others] : [...others, field];
      const block = literals(fields);
      const got = await server.send(block);
      // It drops a field of which only the text is wrong.
      const isTaken = got?.rawHeaders.length === 2 * fields.length;
      const { malformed } = decoder.decode(block, 0, block.length);
      assert.equal(malformed === undefined, isTaken, `octet ${octet}: ${malformed ?? "well-formed"}`);
    }
  });
}

test("what the encoder writes is what a client of node:http2 reads, whatever table it wants", async () => {
  const encoder = new HeaderEncoder();
  const sent: string[][] = [];
  const tableBytes: number[] = [];
  await using client = await nodeClient(
    (streamId, _, answer) => {
      const fields = sent.shift()!;
      const target = Buffer.alloc(encoder.room(fields));
      const end = encoder.encode(fields, target, 0);
      answer(headers(streamId, target.subarray(0, end), endStream));
    },
    (payload) => {
      for (let at = 0; at < payload.length; at += 6) {
        if (payload.readUInt16BE(at) !== headerTableSize) continue;
        tableBytes.push(payload.readUInt32BE(at + 2));
        encoder.setMaxTableBytes(tableBytes.at(-1)!);
      }
    },
  );
  const { session } = client;
  const answer = fc
    .tuple(
      fc.constantFrom("200", "204", "401", "503"),
      fc.array(
        fc.tuple(fc.constantFrom(...names), fc.oneof(value, fc.constantFrom("a", "b", "c".repeat(500)))),
        {
          maxLength: 20,
        },
      ),
    )
    .map(([status, fields]) => [":status", status, ...fields.flat()]);
  await fc.assert(
    fc.asyncProperty(
      fc.array(answer, { minLength: 1, maxLength: 4 }),
      fc.option(fc.nat({ max: 6000 }), { freq: 3 }),
      async (answers, size) => {
        if (size !== null) {
          await new Promise<void>((resolve) => session.settings({ headerTableSize: size }, () => resolve()));
        }
        for (const fields of [...answers, ...answers, ...answers]) {
          sent.push(fields);
          const { rawHeaders } = await request(session, {});
          assert.deepEqual(rawHeaders, fields);
        }
      },
    ),
    { numRuns: 100, ...untilFailure },
  );
  assert.ok(tableBytes.length > 10, "its table has changed");
});

/** In any order, as node:http2 puts pseudo-header fields first. */
function pairs(raw: readonly string[]): string[] {
  return Array.from({ length: raw.length / 2 }, (_, i) => `${raw[2 * i]}: ${raw[2 * i + 1]}`).sort();
}

/** What a Postgres server says, however it is cut into pieces. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { ServerMessages } from "../../src/db/server-messages.ts";

function message(type: string, body: string | Buffer): Buffer {
  const bytes = Buffer.from(body);
  const head = Buffer.alloc(5);
  head.write(type);
  head.writeInt32BE(4 + bytes.length, 1);
  return Buffer.concat([head, bytes]);
}

const ready = message("Z", "I");
const begin = Buffer.concat([message("R", "\0\0\0\0"), message("S", "TimeZone\0UTC\0"), ready]);
const failed = message("E", "SFEHLER\0VERROR\0C22012\0Mdivision by zero\0\0");
const fatal = message("E", "SFATAL\0VFATAL\0C57P01\0Mterminating connection\0\0");
const long = message("D", Buffer.alloc(70, "E"));

/** What is passed on, and the error, of bytes that come in three pieces. */
function read(bytes: Buffer, first: number, second: number) {
  const messages = new ServerMessages();
  const passed: Buffer[] = [];
  for (const piece of [bytes.subarray(0, first), bytes.subarray(first, second), bytes.subarray(second)]) {
    const { pass, fatal } = messages.read(piece);
    passed.push(pass);
    if (fatal !== undefined) return { passed: Buffer.concat(passed), fatal, ready: messages.ready };
  }
  return { passed: Buffer.concat(passed), fatal: undefined, ready: messages.ready };
}

function everyCut(bytes: Buffer, check: (found: ReturnType<typeof read>) => void): void {
  for (let first = 0; first <= bytes.length; first++) {
    for (let second = first; second <= bytes.length; second++) check(read(bytes, first, second));
  }
}

test("answers and errors of statements pass as they are; what ends the session is told instead", () => {
  const before = Buffer.concat([begin, long, failed, ready]);
  everyCut(Buffer.concat([before, fatal]), ({ passed, fatal, ready }) => {
    assert.deepEqual(passed, before);
    assert.deepEqual({ ...fatal }, { name: "PostgresError", severity: "FATAL", code: "57P01" });
    assert.equal(fatal?.message, "terminating connection");
    assert.equal(ready, true);
  });
});

test("before the session has begun any error ends it", () => {
  const before = message("R", "\0\0\0\0");
  everyCut(Buffer.concat([before, failed, ready]), ({ passed, fatal, ready }) => {
    assert.deepEqual(passed, before);
    assert.equal(fatal?.message, "division by zero");
    assert.equal(ready, false);
  });
});

test("what is no Postgres passes, and is not kept", () => {
  const bytes = Buffer.from(`HTTP/1.1 400 Bad Request\r\n\r\n${"E".repeat(100_000)}`);
  assert.deepEqual(read(bytes, 3, 50_000).passed, bytes);
  const endless = Buffer.concat([Buffer.from([0x45, 0x7f, 0xff, 0xff, 0xff]), Buffer.alloc(100_000)]);
  assert.deepEqual(read(endless, 5, 50_000).passed, endless);
  const backwards = Buffer.from([0x44, 0xff, 0xff, 0xff, 0xff, ...ready]);
  assert.deepEqual(read(backwards, 5, 7).passed, backwards);
});

/** Bodies in pieces: nothing is lost, nothing waits that a reader could use, and millions of pieces are few. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { gather, Pieces } from "../../src/rpc/pieces.ts";

/** A body cut at these places, and after how many bytes each of its messages ends. */
const cutBody = fc
  .record({
    lengths: fc.array(fc.nat(300), { maxLength: 8 }),
    cuts: fc.array(fc.nat(2000), { maxLength: 30 }),
  })
  .map(({ lengths, cuts }) => {
    const frames = lengths.map((length, n) => {
      const frame = Buffer.alloc(5 + length, n + 1);
      frame.writeUInt32BE(length, 1);
      return frame;
    });
    const body = Buffer.concat(frames);
    const ends = frames.map((_, n) => Buffer.concat(frames.slice(0, n + 1)).length);
    const places = [...new Set([0, ...cuts.map((cut) => cut % (body.length + 1)), body.length])].sort(
      (a, b) => a - b,
    );
    return { body, ends, pieces: places.slice(1).map((to, n) => body.subarray(places[n], to)) };
  });

test("a body comes through as it was, and each message as soon as its last byte is there", async () => {
  await fc.assert(
    fc.asyncProperty(cutBody, async ({ body, ends, pieces }) => {
      let given = 0;
      let passed = 0;
      const seen: Uint8Array[] = [];
      const source = async function* () {
        for (const piece of pieces) {
          // Before more is read, all messages that are there have been passed on.
          const whole = ends.filter((end) => end <= given).at(-1) ?? 0;
          assert.ok(passed >= whole, `${passed} of ${whole} bytes were passed on`);
          given += piece.length;
          yield piece;
        }
      };
      for await (const chunk of gather(source(), { isFramed: true, maxMessageBytes: 1000 })) {
        passed += chunk.byteLength;
        seen.push(chunk);
      }
      assert.deepEqual(Buffer.concat(seen), body);
      assert.ok(seen.length <= ends.length + 1, "not more pieces than messages");
    }),
    { numRuns: 500 },
  );
});

test("a message that is larger than a block is announced before it has come, and comes in blocks", async () => {
  const head = Buffer.from([0, 0, 0x10, 0, 0]);
  const sizes: number[] = [];
  const source = async function* () {
    for (const byte of head) yield Buffer.from([byte]);
    assert.deepEqual(sizes, [5]);
    for (let n = 0; n < 1024; n++) yield Buffer.alloc(1024);
  };
  for await (const chunk of gather(source(), { isFramed: true, maxMessageBytes: 2 ** 20 }))
    sizes.push(chunk.byteLength);
  assert.deepEqual(sizes, [5, ...new Array(16).fill(64 * 1024)]);
});

for (const isFramed of [true, false]) {
  test(`what is above the limit is told of before the rest comes: ${isFramed ? "framed" : "bare"}`, async () => {
    const sizes: number[] = [];
    const source = async function* () {
      const enough = isFramed ? Buffer.from([0, 0, 0, 0, 101]) : Buffer.alloc(101);
      for (const byte of enough) yield Buffer.from([byte]);
      assert.deepEqual(sizes, [enough.length]);
    };
    for await (const { byteLength } of gather(source(), { isFramed, maxMessageBytes: 100 })) {
      sizes.push(byteLength);
    }
    assert.equal(sizes.length, 1);
  });
}

test("a million pieces of a byte are few, and the same bytes", () => {
  const pieces = new Pieces();
  for (let n = 0; n < 1_000_000; n++) pieces.add(Buffer.from([n % 251]));
  assert.ok(pieces.chunks.length < 10_000, `${pieces.chunks.length} pieces`);
  assert.equal(pieces.bytes, 1_000_000);
  assert.ok(pieces.whole().every((byte, n) => byte === n % 251));
});

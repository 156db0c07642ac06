/** No message is larger than it may be, whatever it says of itself, and no more RPCs run than may. */
import assert from "node:assert/strict";
import { connect as connectHttp2 } from "node:http2";
import { after, before, test } from "node:test";
import { gzipSync } from "node:zlib";
import { Code, ConnectError } from "@connectrpc/connect";
import { compressionBrotli, compressionGzip } from "@connectrpc/connect-node";
import type { TestServer } from "../harness/server.ts";
import { until } from "../harness/until.ts";
import { assertAnswers, type Bytes, collect, fixtureClient, protocols, startFixture } from "./protocols.ts";

const defaultMaxBytes = 4 * 1024 * 1024;
const smallMaxBytes = 64 * 1024;
const compressions = [compressionGzip, compressionBrotli];

async function* echoBytes(count: number) {
  yield { value: new Uint8Array(count) };
}

/** Tells how many bytes came; a request that starts with 1 asks for as many bytes as came back. */
const measure = {
  unary: ({ value }: Bytes) => ({
    value: value[0] === 1 ? new Uint8Array(value.length) : tell(value.length),
  }),
  serverStream: ({ value }: Bytes) =>
    value[0] === 1 ? echoBytes(Number(new TextDecoder().decode(value.subarray(1)))) : echoBytes(1),
  async clientStream(messages: AsyncIterable<Bytes>) {
    let bytes = 0;
    for await (const { value } of messages) bytes += value.length;
    return { value: tell(bytes) };
  },
};

const tell = (count: number) => new TextEncoder().encode(String(count));
const ask = (count: number) => new Uint8Array([1, ...tell(count)]);
const told = ({ value }: Bytes) => Number(new TextDecoder().decode(value));

/** The value that makes a message of so many bytes: binary has a tag and a length, JSON quotes and base64. */
function contentOf(messageBytes: number, isJson: boolean): Uint8Array {
  if (isJson) return new Uint8Array(Math.floor((messageBytes - 2) / 4) * 3);
  const lengthBytes = messageBytes >= 2 ** 21 ? 4 : 3;
  return new Uint8Array(messageBytes - 1 - lengthBytes);
}

const tooLarge = (error: unknown) =>
  error instanceof ConnectError && error.code === Code.ResourceExhausted && /size|larger/.test(error.message);

let latchkey: TestServer;
let small: TestServer;
before(async () => {
  latchkey = await startFixture(measure);
  small = await startFixture(measure, { maxMessageBytes: smallMaxBytes });
});
after(async () => {
  await latchkey.close();
  await small.close();
});

for (const protocol of protocols) {
  const isJson = protocol.name === "Connect JSON";

  for (const [name, maxBytes, server] of [
    ["4 MiB, unless configured,", defaultMaxBytes, () => latchkey],
    ["as many bytes as are configured", smallMaxBytes, () => small],
  ] as const) {
    test(`over ${protocol.name}, a message of ${name} is taken, and one byte more is refused`, async () => {
      const client = fixtureClient(server(), protocol);
      const fits = contentOf(maxBytes, isJson);
      const exceeds = new Uint8Array(fits.length + (isJson ? 3 : 1));
      assert.equal(told(await client.unary({ value: fits })), fits.length);
      await assert.rejects(client.unary({ value: exceeds }), tooLarge);
      assert.equal((await collect(client.serverStream({ value: fits }))).length, 1);
      await assert.rejects(collect(client.serverStream({ value: exceeds })), tooLarge);
      // A stream may be as long as it likes: the limit is that of each message.
      const stream = async function* (...values: Uint8Array[]) {
        for (const value of values) yield { value };
      };
      assert.equal(told(await client.clientStream(stream(fits, fits))), 2 * fits.length);
      await assert.rejects(client.clientStream(stream(fits, exceeds)), tooLarge);
    });
  }

  test(`over ${protocol.name}, a response beyond the limit is an error of the server's, not a message`, async () => {
    const client = fixtureClient(small, protocol);
    const fits = contentOf(smallMaxBytes, isJson);
    assert.equal(
      (await collect(client.serverStream({ value: ask(fits.length) })))[0]?.value.length,
      fits.length,
    );
    await assert.rejects(collect(client.serverStream({ value: ask(fits.length + 3) })), tooLarge);
  });

  for (const sendCompression of compressions) {
    test(`over ${protocol.name}, a small ${sendCompression.name} message that inflates beyond the limit is refused`, async () => {
      const client = fixtureClient(small, protocol, { sendCompression });
      const bomb = new Uint8Array(2 * 1024 * 1024);
      assert.equal(told(await client.unary({ value: new Uint8Array(40_000) })), 40_000);
      await assert.rejects(client.unary({ value: bomb }), tooLarge);
      await assert.rejects(collect(client.serverStream({ value: bomb })), tooLarge);
      await assert.rejects(
        client.clientStream(
          (async function* () {
            yield { value: bomb };
          })(),
        ),
        tooLarge,
      );
    });
  }
}

test("a GET whose query inflates beyond the limit is refused", async () => {
  const query = new URLSearchParams({
    connect: "v1",
    encoding: "proto",
    compression: "gzip",
    base64: "1",
    message: gzipSync(Buffer.alloc(1024 * 1024)).toString("base64url"),
  });
  const response = await fetch(`${small.url}/test.Fixture/Unary?${query}`);
  assert.equal(response.status, 429);
  assert.equal(((await response.json()) as { code: string }).code, "resource_exhausted");
});

for (const [title, headers, prefix] of [
  ["a gRPC frame", { "content-type": "application/grpc" }, Buffer.from([0, 0xff, 0xff, 0xff, 0xff])],
  [
    "a Connect frame",
    { "content-type": "application/connect+proto" },
    Buffer.from([0, 0xff, 0xff, 0xff, 0xff]),
  ],
  [
    "a content-length",
    { "content-type": "application/proto", "content-length": "4294967295" },
    Buffer.alloc(1),
  ],
] as const) {
  test(`${title} that announces 4 GiB is refused on its announcement`, async () => {
    const session = connectHttp2(small.url);
    try {
      const unary = title === "a content-length";
      const path = `/test.Fixture/${unary ? "Unary" : "ClientStream"}`;
      const stream = session.request({ ":method": "POST", ":path": path, te: "trailers", ...headers });
      let answer = "";
      for (const event of ["response", "trailers"]) {
        stream.on(event, (seen: object) => {
          answer += JSON.stringify(seen);
        });
      }
      stream.on("data", (chunk: Buffer) => {
        answer += chunk;
      });
      stream.on("error", () => {}); // What is left of the request is not wanted.
      stream.write(prefix); // and no end
      await new Promise((resolve) => stream.once("close", resolve));
      assert.match(answer, /resource_exhausted|"grpc-status":"8"/);
    } finally {
      session.destroy();
    }
  });
}

test("RPCs beyond the number that may run at once are refused over every protocol, and are taken again later", async () => {
  const held = Promise.withResolvers<void>();
  const running = Promise.withResolvers<void>();
  const busy = await startFixture(
    {
      async unary() {
        return {};
      },
      async *serverStream() {
        running.resolve();
        yield {};
        await held.promise;
      },
    },
    { maxConcurrentRpcs: 1 },
  );
  try {
    const stream = collect(fixtureClient(busy, protocols[0]!).serverStream({}));
    await running.promise;
    const refused = (error: unknown) =>
      error instanceof ConnectError &&
      error.code === Code.ResourceExhausted &&
      error.rawMessage === "too many calls at once: try again";
    for (const protocol of protocols) {
      const client = fixtureClient(busy, protocol);
      await assert.rejects(client.unary({}), refused, protocol.name);
      await assert.rejects(collect(client.serverStream({})), refused, protocol.name);
    }
    held.resolve();
    await stream;
    await fixtureClient(busy, protocols[0]!).unary({});
    const rows = await until(
      () => busy.sql`SELECT code, count(*)::int AS rpcs FROM request_logs GROUP BY code ORDER BY code`,
      (found) => found[0]?.rpcs === 2,
    );
    assert.deepEqual(
      [...rows],
      [
        { code: 0, rpcs: 2 },
        { code: Code.ResourceExhausted, rpcs: 2 * protocols.length },
      ],
    );
  } finally {
    held.resolve();
    await busy.close();
  }
});

test("after all of it the server answers", async () => {
  await assertAnswers(latchkey);
  await assertAnswers(small);
});

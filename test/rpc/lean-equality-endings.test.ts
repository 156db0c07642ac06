/** However a call ends early, by a deadline, its client or a stop, the lean unary path answers, logs and tells its handler as stock Connect does. */
import assert from "node:assert/strict";
import { constants } from "node:http2";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { until } from "../harness/until.ts";
import { ask, lasting } from "./equality/behaviours.ts";
import { build, type Protocol, usual } from "./equality/calls.ts";
import { Http1Connection } from "./equality/http1.ts";
import { Http2Connection } from "./equality/http2.ts";
import { normal, type Pair, type Side, startPair } from "./equality/pair.ts";
import { afterwards, type Look } from "./equality/sighting.ts";
import type { Fields, Request } from "./equality/wire.ts";

let pair: Pair;
before(async () => {
  pair = await startPair();
});
after(() => pair.close());

const looks: readonly Look[] = ["all", "late", "nothing"];

/** Headers that set a deadline in whichever protocol, sent past any client's own timer. */
const deadline = (ms: number): Fields => [
  ["grpc-timeout", `${ms}m`],
  ["connect-timeout-ms", String(ms)],
];

/** Long enough to be reached by no call before its handler was called, on a machine that is busy. */
const shortMs = 3000;

/** A call that lasts, named in its message. */
function lastingCall(protocol: Protocol, behaviour: string, look: Look, headers: Fields): Request {
  const message = { text: ask(behaviour, look), list: [protocol.name, String(headers.length)] };
  return build(protocol, { message, headers });
}

test("a client's deadline ends what lasts", async () => {
  await pair.both("deadline", (side, mark) =>
    side.sendAll(
      lasting.flatMap((behaviour) =>
        usual.flatMap((protocol) =>
          looks.map((look) => mark(lastingCall(protocol, behaviour, look, deadline(shortMs)))),
        ),
      ),
    ),
  );
});

test("the server's own deadline ends what lasts", async () => {
  const own = await startPair({ maxUnaryMs: shortMs });
  try {
    const { seen } = await own.both("own deadline", (side, mark) =>
      side.sendAll(
        lasting.flatMap((behaviour) =>
          usual.flatMap((protocol) =>
            [[], deadline(100_000)].map((headers) => mark(lastingCall(protocol, behaviour, "all", headers))),
          ),
        ),
      ),
    );
    assert.equal(seen.length, 2 * lasting.length * usual.length);
    assert.equal(await own.compareRows(), 1);
  } finally {
    await own.close();
  }
});

const grpcTimeouts = [
  ...[
    "20S",
    "00000020S",
    "99999999S",
    "99999999H",
    "99999999n",
    "99999999m",
    "90M",
    "5000000u",
    "2147483647m",
    "35791394M",
  ],
  ...[
    "20",
    "S",
    "",
    "0S",
    "0m",
    "-1S",
    "+1S",
    "1.5S",
    "1e3S",
    "123456789S",
    "20s",
    "20 S",
    " 20S ",
    "20SS",
    "S20",
    "0x10S",
  ],
  ...["20S, 20S", "２0S"],
];
const connectTimeouts = [
  ...["20000", "0000020000", "9999999999", "2147483647", "2147483648", "4294967296"],
  ...[
    "0",
    "-1",
    "+1",
    "1.5",
    "1e4",
    "10000000000",
    "abc",
    "",
    " 20000 ",
    "20000ms",
    "0x10",
    "20000, 20000",
    "NaN",
  ],
];
for (const [header, values] of [
  ["grpc-timeout", grpcTimeouts],
  ["connect-timeout-ms", connectTimeouts],
] as const) {
  for (const value of values) {
    test(`${header}: ${JSON.stringify(value)}`, () =>
      pair.compareAll(
        usual.flatMap((protocol) =>
          (["Call", "Staff"] as const).map((method) => {
            const request = build(protocol, {
              method: protocol.kind === "get" ? "Get" : method,
              headers: [[header, latin1(value)]],
            });
            return [`${header} ${value}, ${method}, ${protocol.name}`, request] as const;
          }),
        ),
      ));
  }
}
/** What goes over the wire for a text that is not ASCII. */
const latin1 = (text: string) => Buffer.from(text, "utf8").toString("latin1");

test("two deadlines that differ", () =>
  pair.compareAll(
    usual.map((protocol) => {
      const headers: Fields = [...deadline(20_000), ...deadline(30_000)];
      return [`two deadlines, ${protocol.name}`, build(protocol, { headers })] as const;
    }),
  ));

test("a deadline passes in the middle of a body", async () => {
  await pair.both("deadline in the body", (side, mark) =>
    side.sendAll(
      usual
        .filter(({ kind }) => kind !== "get")
        .flatMap((protocol) =>
          [0, 1, 5, 7].map((part) => {
            const request = build(protocol, { message: { text: "never whole" }, headers: deadline(300) });
            const bytes = Buffer.concat(request.body ?? []);
            const body = [bytes.subarray(0, part), bytes.subarray(part)];
            return { ...mark(request), body, holdLast: sleep(1500) };
          }),
        ),
    ),
  );
});

/** Sends a call, and waits until its handler has been called. */
async function begin(side: Side, request: Request) {
  side.sightings.length = 0;
  const connection =
    request.version === "1.1" ? new Http1Connection(side.server.port) : new Http2Connection(side.server.url);
  let reset: (code: number) => void = () => {};
  const answer =
    connection instanceof Http2Connection
      ? connection.exchange(request, (stream) => {
          reset = (code) => stream.close(code);
        })
      : connection.exchange(request);
  answer.catch(() => {});
  await until(
    () => side.sightings.length,
    (calls) => calls === 1,
  );
  return { connection, answer, reset: (code: number) => reset(code) };
}

/** Over HTTP/1.1 node tells of a client that goes after a request without a body by an error, which Connect passes on. */
function withoutReason(protocol: Protocol, seen: unknown[]): unknown {
  if (protocol.kind !== "get" || protocol.version === "2") return seen;
  return JSON.parse(
    JSON.stringify(seen).replaceAll(/"(10 aborted|AbortError This operation was aborted)"/g, '"(aborted)"'),
  );
}

const isHttp2 = ({ version }: Protocol) => version === "2";
const codes = [
  ...[constants.NGHTTP2_CANCEL, constants.NGHTTP2_NO_ERROR, constants.NGHTTP2_INTERNAL_ERROR],
  ...[
    constants.NGHTTP2_PROTOCOL_ERROR,
    constants.NGHTTP2_REFUSED_STREAM,
    constants.NGHTTP2_ENHANCE_YOUR_CALM,
  ],
  ...[constants.NGHTTP2_INADEQUATE_SECURITY, constants.NGHTTP2_FLOW_CONTROL_ERROR, 0x99],
];

for (const behaviour of lasting) {
  test(`a client that resets its stream, the handler does this: ${behaviour}`, async () => {
    for (const protocol of usual.filter(isHttp2)) {
      for (const look of looks) {
        for (const code of behaviour === "wait for the end" ? codes : codes.slice(0, 1)) {
          await pair.both(
            `reset ${code}, ${behaviour}, ${look}, ${protocol.name}`,
            async (side, mark) => {
              const { connection, reset } = await begin(
                side,
                mark(build(protocol, { message: { text: ask(behaviour, look) } })),
              );
              reset(code);
              const seen = await Promise.all(side.sightings.map(afterwards));
              (connection as Http2Connection).session.close();
              return seen;
            },
            true,
          );
        }
      }
    }
  });

  test(`a client that closes its connection, the handler does this: ${behaviour}`, async () => {
    for (const protocol of usual) {
      for (const look of looks) {
        for (const headers of [[], deadline(60_000)]) {
          await pair.both(
            `close, ${behaviour}, ${look}, ${headers.length}, ${protocol.name}`,
            async (side, mark) => {
              const request = mark(build(protocol, { message: { text: ask(behaviour, look) }, headers }));
              const { connection } = await begin(side, request);
              if (connection instanceof Http1Connection) connection.socket.destroy();
              else connection.session.destroy();
              return withoutReason(protocol, await Promise.all(side.sightings.map(afterwards)));
            },
            true,
          );
        }
      }
    }
  });
}

test("a client that goes in the middle of its body: no handler is called", async () => {
  for (const protocol of usual.filter(({ kind }) => kind !== "get")) {
    for (const part of [0, 1, 5, 8]) {
      const calls = await pair.both(
        `gone after ${part} bytes, ${protocol.name}`,
        async (side, mark) => {
          side.sightings.length = 0;
          const request = mark(build(protocol, { message: { text: "never whole" } }));
          const bytes = Buffer.concat(request.body ?? []);
          const gone = Promise.withResolvers<void>();
          const half = {
            ...request,
            body: [bytes.subarray(0, part), bytes.subarray(part)],
            holdLast: gone.promise,
          };
          const connection =
            request.version === "1.1"
              ? new Http1Connection(side.server.port)
              : new Http2Connection(side.server.url);
          connection.exchange(half).catch(() => {});
          const socket =
            connection instanceof Http1Connection ? connection.socket : connection.session.socket;
          await until(
            () => socket?.bytesWritten ?? 0,
            (written) => written > part + 60,
          );
          await side.hasRead(socket);
          if (connection instanceof Http1Connection) connection.socket.destroy();
          else connection.session.destroy();
          gone.resolve();
          // What the server makes of it, it has made when it answers another one.
          await side.send(build(protocol, { message: { text: "another" } }));
          return side.sightings.filter(({ message }) => !JSON.stringify(message).includes("another")).length;
        },
        true,
      );
      assert.equal(calls, 0);
    }
  }
});

test("requests that are pipelined over HTTP/1.1 are answered in turn, whichever is ready first", async () => {
  const [web, json] = [usual[1], usual[2]] as [Protocol, Protocol];
  const orders: Record<string, [Protocol, string][]> = {
    "the first is slow": [
      [json, "echo later"],
      [json, "echo"],
      [web, "echo"],
    ],
    "the second is slow": [
      [web, "echo"],
      [json, "echo later"],
      [json, "throw NotFound"],
    ],
    "all fail": [
      [json, "throw NotFound"],
      [web, "reject with an Error"],
      [json, "far too many"],
    ],
  };
  for (const [name, calls] of Object.entries(orders)) {
    await pair.both(`pipelined, ${name}`, async (side, mark) => {
      const requests = calls.map(([protocol, text]) =>
        mark(build(protocol, { message: { text: ask(text) } })),
      );
      const connection = new Http1Connection(side.server.port);
      const answers = await connection.pipeline(requests);
      connection.socket.destroy();
      return answers.map((answer, i) => normal(answer, requests[i] as Request));
    });
  }
});

test("a stop ends what lasts too long", async () => {
  const own = await startPair({ shutdownTimeoutMs: 300 });
  try {
    await own.both("stop", async (side, mark) => {
      const calls = [];
      const sightings = [];
      for (const protocol of usual) {
        for (const behaviour of lasting) {
          calls.push(await begin(side, mark(build(protocol, { message: { text: ask(behaviour) } }))));
          sightings.push(...side.sightings);
        }
      }
      await side.server.server.close();
      const answers = await Promise.all(
        calls.map(({ answer }) => answer.then((all) => normal(all, build(usual[0] as Protocol)))),
      );
      return { answers, seen: await Promise.all(sightings.map(afterwards)) };
    });
  } finally {
    await own.close();
  }
});

test("more calls than there is room for are refused alike, known callers' and others'", async () => {
  const own = await startPair({ maxConcurrentRpcs: 4 });
  const known: Fields = [["x-api-key", own.tokens.user ?? ""]];
  try {
    for (const protocol of usual) {
      await own.both(`no room, ${protocol.name}`, async (side, mark) => {
        const lastingCalls = [];
        const hang = (headers: Fields) =>
          mark(build(protocol, { message: { text: ask("never end") }, headers }));
        for (const headers of [[], [], known, known]) {
          lastingCalls.push(await begin(side, hang(headers)));
          // Another one, from somebody and from nobody, at each stage.
          const quick = build(protocol, { message: { text: ask("echo") } });
          side.sightings.length = 0;
          const answers = [];
          for (const more of [[], known]) {
            const { answer } = await side.send(mark({ ...quick, headers: [...quick.headers, ...more] }));
            answers.push(answer);
          }
          lastingCalls.push(...answers);
        }
        for (const call of lastingCalls) {
          if (!("connection" in call)) continue;
          const { connection } = call;
          if (connection instanceof Http1Connection) connection.socket.destroy();
          else connection.session.destroy();
        }
        await until(
          async () => (await side.send(build(protocol))).answer,
          ({ status, trailers }) =>
            status === 200 && !trailers.some(([name, value]) => name === "grpc-status" && value !== "0"),
        );
        return lastingCalls.filter((call) => !("connection" in call));
      });
    }
    assert.ok((await own.compareRows()) >= usual.length);
  } finally {
    await own.close();
  }
});

test("strict counting answers alike", async () => {
  const own = await startPair({ usageDurability: "strict" });
  try {
    await own.compareAll(
      usual.flatMap((protocol) =>
        ["echo", "headers", "throw NotFound", "far too many", "throw an Error"].map((behaviour) => {
          const headers: Fields = [["x-api-key", own.tokens.user ?? ""]];
          const request = build(protocol, { message: { text: ask(behaviour) }, headers });
          return [`strict, ${behaviour}, ${protocol.name}`, request] as const;
        }),
      ),
    );
    assert.ok((await own.compareRows()) > 20);
  } finally {
    await own.close();
  }
});

test("both log the same of all of it", async () => {
  const rows = await pair.compareRows();
  assert.ok(rows > 300, `${rows} requests were logged`);
});

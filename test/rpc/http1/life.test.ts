/** However an HTTP/1.1 connection ends, by its client, by a timeout or by the server's stop, clients, handlers and the log are told alike with and without the lean path. */
import assert from "node:assert/strict";
import type { Server } from "node:http";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { until } from "../../harness/until.ts";
import { ask } from "../equality/behaviours.ts";
import { json, latin1, Maker, type Parts, path } from "./bytes.ts";
import type { RawConnection } from "./raw-connection.ts";
import { read } from "./transcript.ts";
import { type Act, type Step, startTwins, type Table, type Twins } from "./twins.ts";

let twins: Twins;
before(async () => {
  twins = await startTwins();
});
after(() => twins.pair.close());

const one = Buffer.concat;
/** Lasts until it is ended from elsewhere. */
const lasting = (parts: Parts = {}): Parts => ({ body: json(ask("wait for the end")), ...parts });
const deadline = (ms: number): Parts => lasting({ fields: [`Connect-Timeout-Ms: ${ms}`] });

/** The handler runs: both, before the client does anything else. */
const runs: Act = async (_connection, side) => {
  await until(
    () => side.sightings.length,
    (count) => count > 0,
  );
};
const forget: Act = (_connection, side) => {
  side.sightings.length = 0;
};

test("a client that ends its side", () =>
  twins.compareAll("half-closed", {
    "before it has asked": ["closed", () => ["end", "closed"]],
    "after it was answered": ["200 closed", (m) => [m.post(), 1, "end", "closed"]],
    "after two were answered": ["200 200 closed", (m) => [one([m.post(), m.get()]), 2, "end", "closed"]],
    "after an empty line": ["closed", () => [latin1("\r\n"), "end", "closed"]],
    "in the first line": ["400 closed", (m) => [m.post().subarray(0, 12), "end", "closed"]],
    "in the first line of a second": [
      "200 400 closed",
      (m) => [m.post(), 1, m.post().subarray(0, 12), "end", "closed"],
    ],
    "in the head": ["400 closed", (m) => [m.post().subarray(0, 60), "end", "closed"]],
    "in the head of a second": [
      "200 400 closed",
      (m) => [m.post(), 1, m.post().subarray(0, 60), "end", "closed"],
    ],
    "before the body": ["400 closed", (m) => [m.post().subarray(0, -16), "end", "closed"]],
    "in the body": ["400 closed", (m) => [m.post().subarray(0, -6), "end", "closed"]],
    "in the body of a second": [
      "200 400 closed",
      (m) => [m.post(), 1, m.post().subarray(0, -6), "end", "closed"],
    ],
    "in the body of a denied one": [
      "401 400 closed",
      (m) => [m.post({ path: path("Known") }).subarray(0, -6), 1, "end", "closed"],
    ],
    "in the body of one that is no RPC": [
      "404 400 closed",
      (m) => [m.post({ path: "/nowhere" }).subarray(0, -6), 1, "end", "closed"],
    ],
    "in a chunk": ["400 closed", (m) => [m.chunked({}, "10\r\n{"), "end", "closed"]],
    "before the last chunk": ["400 closed", (m) => [m.chunked({}, "2\r\n{}\r\n"), "end", "closed"]],
    "after garbage": ["200 400 closed", (m) => [m.post(), 1, latin1("x"), "end", "closed"]],
  }));

for (const [name, make] of [
  ["a call", (m: Maker) => m.post(lasting())],
  ["a call with a deadline", (m: Maker) => m.post(deadline(60_000))],
  ["a GET", (m: Maker) => m.get({ message: json(ask("wait for the end")) })],
  ["a call in chunks", (m: Maker) => m.chunked({}, chunked(json(ask("wait for the end"))))],
  [
    "a gRPC-Web call",
    (m: Maker) =>
      m.post(lasting({ type: "application/grpc-web+json", body: enveloped(json(ask("wait for the end"))) })),
  ],
] as const) {
  for (const end of ["end", "reset"] as const) {
    test(`a client that leaves while ${name} runs: ${end}`, async () => {
      const leave: Step[] = [forget, "settle"];
      const { sightings } = await twins.compare(
        `leaves, ${name}, ${end}`,
        (m) => [...leave, make(m), runs, end, "closed"],
        { isLeft: true },
      );
      assert.equal(sightings.length, 1);
      await twins.compare(
        `leaves a second, ${name}, ${end}`,
        (m) => [m.get(), 1, forget, make(m), runs, end, "closed"],
        { isLeft: true },
      );
    });
  }
}

test("a client that resets its connection", () =>
  twins.compareAll(
    "reset",
    {
      "before it has asked": ["closed", () => ["settle", "reset", "closed"]],
      "in the head": ["closed", (m) => [m.post().subarray(0, 60), "reset", "closed"]],
      "in the body": ["closed", (m) => [m.post().subarray(0, -6), "settle", "reset", "closed"]],
      "in the body of a large one": [
        "closed",
        (m) => [m.post({ length: "8000" }), "settle", "reset", "closed"],
      ],
      "after it was answered": ["200 closed", (m) => [m.post(), 1, "reset", "closed"]],
      "in the body of a second": [
        "200 closed",
        (m) => [m.post(), 1, m.post().subarray(0, -6), "settle", "reset", "closed"],
      ],
      "in the body of a denied one": [
        "401 closed",
        (m) => [m.post({ path: path("Known") }).subarray(0, -6), 1, "reset", "closed"],
      ],
      "in a chunk": ["closed", (m) => [m.chunked({}, "10\r\n{"), "settle", "reset", "closed"]],
    },
    { isLeft: true },
  ));

test("connections that rest, drip or stop half-way are ended in time", async () => {
  const own = await startTwins();
  for (const { server } of own.pair.sides) {
    const http = server.server.app.server as Server;
    // Node adds a second to the first, and looks for the others every five.
    [http.keepAliveTimeout, http.headersTimeout, http.requestTimeout] = [1000, 500, 1500];
  }
  const drip =
    (bytes: Buffer): Act =>
    async (connection) => {
      for (const byte of bytes) {
        if (connection.closed) return;
        connection.socket.write(Buffer.from([byte]));
        await sleep(100);
      }
    };
  const cases: Table = {
    "rests after an answer": ["200 closed", (m) => [m.post(), "closed"]],
    "rests after a GET's": ["200 closed", (m) => [m.get(), "closed"]],
    "rests after one that is no RPC": ["200 closed", (m) => [m.head(), "closed"]],
    "rests after several of all kinds": [
      "200 200 200 200 200 closed",
      (m) => [one([m.post(), m.head(), m.get(), m.chunked(), m.post()]), 5, "closed"],
    ],
    "rests after a denied one": ["401 closed", (m) => [m.post({ path: path("Known") }), "closed"]],
    "rests after an empty line": ["200 closed", (m) => [m.post(), 1, latin1("\r\n"), "closed"]],
    "asks again in time": [
      "200 200 200 closed",
      (m) => [m.post(), 1, () => sleep(600), m.post(), 2, () => sleep(600), m.head(), 3, "closed"],
    ],
    "stops in its first line": ["408 closed", (m) => [m.post().subarray(0, 20), "closed"]],
    "stops in its head": ["408 closed", (m) => [m.post().subarray(0, 60), "closed"]],
    "drips its head": ["408 closed", (m) => [drip(m.post()), "closed"]],
    "drips a second head": ["200 408 closed", (m) => [m.post(), 1, drip(m.post()), "closed"]],
    "drips a head that is no RPC's": [
      "408 closed",
      (m) => [drip(m.head({ fields: [`X-Long: ${"x".repeat(100)}`] })), "closed"],
    ],
    "stops in its body": ["408 closed", (m) => [m.post({ length: "200" }), "closed"]],
    "stops in a second body": ["200 408 closed", (m) => [m.post(), 1, m.post({ length: "200" }), "closed"]],
    "stops in the body of a denied one": [
      "401 closed",
      (m) => [m.post({ length: "200", path: path("Known") }), 1, "closed"],
    ],
    "stops in the body of one that is no RPC": [
      "404 closed",
      (m) => [m.post({ length: "200", path: "/nowhere" }), 1, "closed"],
    ],
    "drips its body": [
      "408 closed",
      (m) => [m.post({ length: "200", body: "" }), drip(Buffer.alloc(150, " ")), "closed"],
    ],
    "drips a second body": [
      "200 408 closed",
      (m) => [m.post(), 1, m.post({ length: "200", body: "" }), drip(Buffer.alloc(150, " ")), "closed"],
    ],
    "drips a chunk": ["408 closed", (m) => [m.chunked({}, "c8\r\n"), drip(Buffer.alloc(150, " ")), "closed"]],
    "is answered longer than any of it": [
      "504 200 closed",
      (m) => [m.post(deadline(7000)), 1, m.post(), 2, "closed"],
    ],
  };
  try {
    // Both are cut off in the middle, though not at the same byte.
    await own.compareAll("timeouts", cases, { inPieces: true });
    await own.pair.compareRows();
  } finally {
    await own.pair.close();
  }
});

test("a stop ends what rests, and lets what runs finish, as its connection's last", async () => {
  const own = await startTwins({ shutdownTimeoutMs: 8000 });
  const stopped = new Map<unknown, Promise<void>>();
  let ready = 0;
  const allReady = Promise.withResolvers<void>();
  /** Waits for all the other cases: the stop begins when all of them have come so far. */
  const stop: Act = async (_connection, { server }) => {
    if (++ready === 2 * Object.keys(cases).length) allReady.resolve();
    await allReady.promise;
    if (!stopped.has(server)) stopped.set(server, server.server.close());
  };
  const half = (m: Maker, parts: Parts = {}): [Buffer, Buffer] => {
    const bytes = m.post(parts);
    return [bytes.subarray(0, -6), bytes.subarray(-6)];
  };
  const ends =
    (before: (m: Maker) => readonly Step[], then: (m: Maker) => readonly Step[] = () => []) =>
    (m: Maker): readonly Step[] => [...before(m), "settle", stop, "settle", ...then(m), "closed"];
  const cases: Table = {
    "never asked": ["closed", ends(() => [])],
    "rests after a call": ["200 closed", ends((m) => [m.post(), 1])],
    "rests after a GET": ["200 closed", ends((m) => [m.get(), 1])],
    "rests after one that is no RPC": ["200 closed", ends((m) => [m.head(), 1])],
    "rests after both": ["200 200 200 closed", ends((m) => [one([m.post(), m.head(), m.post()]), 3])],
    "asks again": [
      "200 closed",
      ends(
        (m) => [m.post(), 1],
        (m) => [m.post()],
      ),
    ],
    runs: [
      "504 closed",
      ends(
        (m) => [m.post(deadline(3000))],
        () => [1],
      ),
    ],
    "runs after another": [
      "200 504 closed",
      ends(
        (m) => [m.post(), 1, m.post(deadline(3000))],
        () => [2],
      ),
    ],
    "runs, a GET": [
      "504 closed",
      ends(
        (m) => [m.get({ message: json(ask("wait for the end")), fields: ["Connect-Timeout-Ms: 3000"] })],
        () => [1],
      ),
    ],
    // Whether what nobody is answered is begun at all may differ.
    "runs, another sent meanwhile": [
      "504 closed",
      ends(
        (m) => [m.post(deadline(3000))],
        (m) => [m.post(), 1],
      ),
      1,
    ],
    "has sent half its body": [
      "200 closed",
      ends(
        (m) => [half(m)[0]],
        (m) => [half(m)[1], 1],
      ),
    ],
    "has sent half its second body": [
      "200 200 closed",
      ends(
        (m) => [m.post(), 1, half(m)[0]],
        (m) => [half(m)[1], 2],
      ),
    ],
    "has sent half a body that is denied": [
      "401 closed",
      ends(
        (m) => [half(m, { path: path("Known") })[0]],
        (m) => [half(m, { path: path("Known") })[1]],
      ),
    ],
    "has sent half its head": [
      "200 closed",
      ends(
        (m) => [m.post().subarray(0, 60)],
        (m) => [m.post().subarray(60), 1],
      ),
    ],
    "has sent half its second head": [
      "200 200 closed",
      ends(
        (m) => [m.post(), 1, m.post().subarray(0, 60)],
        (m) => [m.post().subarray(60), 2],
      ),
    ],
    "has sent half a head and stays": ["closed", ends((m) => [m.post().subarray(0, 60)])],
    "has sent half a second head and stays": [
      "200 closed",
      ends((m) => [m.post(), 1, m.post().subarray(0, 60)]),
    ],
    "has sent half a chunk": [
      "200 closed",
      ends(
        (m) => [m.chunked({}, "10\r\n{")],
        () => [latin1('"text":"hello"}\r\n0\r\n\r\n'), 1],
      ),
    ],
  };
  try {
    await own.compareAll("stop", cases);
    await Promise.all(stopped.values());
  } finally {
    await own.pair.close();
  }
});

test("a stop waits no longer than it may for what runs", async () => {
  const own = await startTwins({ shutdownTimeoutMs: 300 });
  try {
    const stop: Act = (_connection, { server }) => void server.server.close();
    await own.compare("stop that waits", (m) => [
      forget,
      m.post(),
      1,
      m.post(lasting()),
      runs,
      stop,
      "closed",
    ]);
  } finally {
    await own.pair.close();
  }
});

test("a client that takes its answers late gets all of them", async () => {
  const own = await startTwins({ maxMessageBytes: 4 * 1024 * 1024 });
  const pause: Act = ({ socket }) => void socket.pause();
  const resume: Act = ({ socket }) => void socket.resume();
  try {
    const large = { body: json("l".repeat(1024 * 1024)) };
    await own.compareAll("late", {
      "one large answer": ["200", (m) => [pause, m.post(large), "settle", resume, 1]],
      "large answers to small requests": [
        "200 200 200 200",
        (m) => [pause, one([large, large, {}, large].map((parts) => m.post(parts))), "settle", resume, 4],
      ],
      "fifty requests and no answer taken": [
        Array.from({ length: 50 }, () => "200").join(" "),
        (m) => [
          pause,
          one(Array.from({ length: 50 }, () => m.post({ body: json("s".repeat(60_000)) }))),
          "settle",
          resume,
          50,
        ],
      ],
    });
    await own.pair.compareRows();
  } finally {
    await own.pair.close();
  }
});

test("an answer that its client never takes is given up, and its connection with it", async () => {
  const own = await startTwins({ maxMessageBytes: 16 * 1024 * 1024, maxUnaryMs: 1500 });
  try {
    const ends = await Promise.all(
      own.pair.sides.map(async (side) => {
        const connection: RawConnection = own.open(side);
        const make = new Maker("untaken");
        connection.socket.pause();
        await connection.write(make.post({ body: json("u".repeat(12 * 1024 * 1024)) }));
        await until(
          () => connection.peer?.destroyed,
          (isDestroyed) => isDestroyed === true,
        );
        connection.socket.resume();
        await until(
          () => connection.closed,
          (isClosed) => isClosed,
        );
        const [answer, ...others] = read(connection.received, true);
        // As much of it came as the buffers between both hold.
        return [answer?.status, answer?.lines, answer?.end, others.length];
      }),
    );
    assert.deepEqual(ends[0], ends[1]);
    assert.equal(ends[0]?.[2], "cut");
    await own.compare("after it", (m) => [m.post()]);
  } finally {
    await own.pair.close();
  }
});

test("both log the same of all of it", async () => {
  const rows = await twins.pair.compareRows();
  assert.ok(rows > 30, `${rows} connections' requests were logged`);
});

function chunked(text: string): string {
  return `${Buffer.byteLength(text).toString(16)}\r\n${text}\r\n0\r\n\r\n`;
}

function enveloped(text: string): Buffer {
  const head = Buffer.alloc(5);
  head.writeUInt32BE(Buffer.byteLength(text), 1);
  return one([head, Buffer.from(text)]);
}

/** Clients that are slow, silent, half gone or gone cost bounded memory, are ended in time and harm no others. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { after, before, test } from "node:test";
import { gzipSync } from "node:zlib";
import {
  callHeaders,
  closed,
  flag,
  frame,
  frameType,
  headerBlock,
  openSocket,
  preface,
  writeMany,
} from "./frames.ts";
import { socketsAllowed, startTarget, type Target } from "./target.ts";

let target: Target;
before(async () => {
  // A unary call may take three seconds: so long may its body.
  target = await startTarget({ LATCHKEY_MAX_UNARY_MS: "3000" });
});
after(() => target.callers.close());

const get = "/api.users.UserService/GetUser";
const requestHead = (type: string, length: number | "chunked", extra = "") =>
  `POST ${get} HTTP/1.1\r\nhost: latchkey.test\r\ncontent-type: ${type}\r\n${extra}` +
  `${length === "chunked" ? "transfer-encoding: chunked" : `content-length: ${length}`}\r\n\r\n`;
const wholeCall = `${requestHead("application/json", 14)}{"userId":"1"}`;
const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

/** Connects in small crowds: a queue that overflows is the kernel's concern. */
async function openMany(count: number, begin: (socket: ReturnType<typeof openSocket>, n: number) => void) {
  const sockets = [];
  for (let n = 0; n < count; n++) {
    const socket = openSocket(target.port);
    sockets.push(socket);
    socket.once("connect", () => begin(socket, n));
    if (n % 100 === 99) await new Promise((resolve) => socket.once("connect", resolve));
  }
  return sockets;
}

test("thousands of connections that rest are kept, and those that say nothing are ended", async (t) => {
  const count = socketsAllowed(5000);
  await target.attack(t, `${count} connections that rest`, 250, async () => {
    const sockets = await openMany(count, (socket, n) => {
      if (n % 3 === 0) socket.write(preface);
      else if (n % 3 === 1) socket.write(wholeCall);
    });
    const silent = sockets.filter((_, n) => n % 3 === 2);
    await target.callers.callMore(20);
    const ended = await Promise.all(silent.map(async (socket) => closed(socket)));
    t.diagnostic(
      `${ended.length} that said nothing were ended; ${target.sample()?.connections} connections were open then`,
    );
    for (const socket of sockets) socket.destroy();
  });
});

test("bodies that come a byte at a time are answered at the longest that a call may take, headers after half a minute", async (t) => {
  await target.attack(t, "600 clients that send a byte every 500 ms", 150, async () => {
    const begins = ["P", "GET / HTTP/1.1\r\nhost: ", requestHead("application/json", 1000), "PRI * HTT"];
    const sockets = await openMany(600, (socket, n) => socket.write(begins[n % 4] ?? ""));
    const dripping = setInterval(() => {
      for (const socket of sockets) if (socket.writable) socket.write("x");
    }, 500);
    const ended = Promise.all(sockets.map(closed));
    await Promise.all(sockets.map((socket) => Promise.race([ended, closed(socket), once(socket, "data")])));
    clearInterval(dripping);
    for (const socket of sockets) socket.destroy();
  });
});

test("clients that go, in either direction, at every point of a call leave nothing behind", async (t) => {
  const call = Buffer.concat([
    preface,
    frame(frameType.headers, flag.endHeaders, 1, callHeaders(target.token)),
    frame(frameType.data, flag.endStream, 1, Buffer.from([0, 0, 0, 0, 2, 8, 1])),
  ]);
  const upload = Buffer.from(`${requestHead("application/json", "chunked")}5\r\n{"use\r\n`);
  const pipelined = Buffer.from(wholeCall.repeat(20));
  const points = [Buffer.from(wholeCall), call, upload, pipelined].flatMap((bytes) =>
    Array.from({ length: 25 }, (_, i) => bytes.subarray(0, Math.ceil((bytes.length * (i + 1)) / 25))),
  );
  await target.attack(t, `${points.length * 3} calls, cut off after each part of theirs`, 150, async () => {
    for (const leave of ["end", "destroy", "resetAndDestroy"] as const) {
      const sockets = points.map((bytes) => {
        const socket = openSocket(target.port);
        socket.write(bytes, () => {
          // Some at once, some while it is answered.
          if (bytes.length % 2 === 0) socket[leave]();
          else setTimeout(() => socket[leave](), bytes.length % 20);
        });
        return socket;
      });
      await Promise.all(sockets.map(closed));
    }
  });
});

test("sockets that are half open, and answers that nobody reads, do not outlive their call", async (t) => {
  await target.attack(t, "400 half-open connections, each with a call", 150, async () => {
    const sockets = await openMany(400, (socket, n) => {
      socket.pause();
      if (n % 2 === 0) socket.end(wholeCall);
      else socket.end(preface);
    });
    // Read late: the server's end must not wait for ours.
    await pause(1500);
    for (const socket of sockets) socket.resume();
    await Promise.all(sockets.map(closed));
  });
});

const bomb = gzipSync(Buffer.alloc(256 * 1024 * 1024));
const enveloped = Buffer.concat([Buffer.from([1, 0, 0, 0, 0]), bomb]);
enveloped.writeUInt32BE(bomb.length, 1);

for (const [name, type, encoding, body] of [
  ["gRPC-Web", "application/grpc-web", "grpc-encoding: gzip", enveloped],
  ["Connect", "application/proto", "content-encoding: gzip", bomb],
] as const) {
  test(`messages that inflate to 256 MiB are refused over ${name} once they pass what a message may have`, async (t) => {
    await target.attack(t, `40 ${name} bombs of ${bomb.length >> 10} KiB`, 400, async () => {
      await Promise.all(
        Array.from({ length: 40 }, async () => {
          const socket = openSocket(target.port, { allowHalfOpen: true });
          let answer = "";
          socket.on("data", (chunk: Buffer) => {
            answer += chunk.toString("latin1");
          });
          socket.on("end", () => socket.end());
          socket.write(requestHead(type, body.length, `${encoding}\r\nconnection: close\r\n`));
          socket.write(body);
          await closed(socket);
          assert.match(answer, /resource_exhausted|grpc-status: ?8|deadline|grpc-status: ?4/, answer);
        }),
      );
    });
  });
}

test("messages that inflate to 256 MiB are refused over gRPC once they pass what a message may have", async (t) => {
  const fields = [
    [":method", "POST"],
    [":scheme", "http"],
    [":path", get],
    [":authority", "latchkey.test"],
    ["content-type", "application/grpc"],
    ["grpc-encoding", "gzip"],
  ] as const;
  await target.attack(t, `40 gRPC bombs of ${bomb.length >> 10} KiB`, 400, async () => {
    await Promise.all(
      Array.from({ length: 40 }, async () => {
        const socket = openSocket(target.port);
        socket.write(preface);
        // Its windows hold 64 KiB: the rest is let go of, as the server refuses by then or waits until the deadline.
        socket.write(frame(frameType.headers, flag.endHeaders, 1, headerBlock(fields)));
        for (let at = 0; at < Math.min(enveloped.length, 64_000); at += 16_000) {
          socket.write(frame(frameType.data, 0, 1, enveloped.subarray(at, Math.min(at + 16_000, 64_000))));
        }
        await pause(1000);
        socket.destroy();
        await closed(socket);
      }),
    );
  });
});

for (const [name, contentType, head] of [
  ["Connect", "application/json", "{"],
  ["gRPC-Web", "application/grpc-web+json", "\0\0\x20\0\0{"],
] as const) {
  test(`bodies in more than a million pieces of a byte cost what they hold, not what pieces cost, over ${name}`, async (t) => {
    const own = await startTarget({ LATCHKEY_MAX_UNARY_MS: "90000" });
    const piece = "1\r\n \r\n";
    await own.attack(t, `3,000,000 pieces of two bodies, ${name}`, 150, async () => {
      await Promise.all(
        [0, 1].map(async () => {
          const socket = openSocket(own.port);
          socket.write(`${requestHead(contentType, "chunked")}${head.length.toString(16)}\r\n${head}\r\n`);
          await writeMany(socket, Buffer.from(piece.repeat(5000)), 300);
          socket.destroy();
        }),
      );
    });
    await own.stop(t);
  });
}

test("after all of it nothing runs any more: the server stops by itself", (t) => target.stop(t));

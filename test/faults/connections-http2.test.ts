/** HTTP/2 clients that abuse the protocol cost bounded memory, leave nothing behind and harm no others. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { connect as connectHttp2 } from "node:http2";
import { after, before, test } from "node:test";
import { openSql } from "../harness/postgres.ts";
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
import { startTarget, type Target } from "./target.ts";
import { createUnknownToken } from "./tokens.ts";

let target: Target;
before(async () => {
  target = await startTarget();
});
after(() => target.stop({ diagnostic: () => {} } as never));

const reset = Buffer.from([0, 0, 0, 8]);

test("streams that are opened and reset at once end their connection, whoever opens how many of these", async (t) => {
  await target.attack(t, "rapid reset, 10 connections of 20,000 streams", 300, async () => {
    const opened = await Promise.all(
      Array.from({ length: 10 }, async () => {
        const socket = openSocket(target.port);
        socket.write(preface);
        let stream = 1;
        for (; stream < 40_000 && !socket.destroyed && socket.writable; stream += 40) {
          const burst = Array.from({ length: 20 }, (_, i) => [
            frame(frameType.headers, flag.endHeaders, stream + 2 * i, callHeaders()),
            frame(frameType.rstStream, 0, stream + 2 * i, reset),
          ]);
          await writeMany(socket, Buffer.concat(burst.flat()), 1);
        }
        await closed(socket);
        return stream / 2;
      }),
    );
    const sql = openSql(target.databaseUrl);
    const [row] = await sql<
      { rpcs: number }[]
    >`SELECT count(*)::int AS rpcs FROM request_logs WHERE code = 1`;
    await sql.end();
    t.diagnostic(
      `streams written to one connection: ${Math.round(Math.max(...opened))} at most; reset before they began, of 1,000 allowed on each: all but ${row?.rpcs} of 10,000`,
    );
    assert.ok((row?.rpcs ?? 0) < 5000);
  });
});

test("header blocks that never end are cut off", async (t) => {
  await target.attack(t, "CONTINUATION flood, 20 connections", 300, async () => {
    const sent = await Promise.all(
      Array.from({ length: 20 }, async () => {
        const socket = openSocket(target.port);
        socket.write(preface);
        socket.write(frame(frameType.headers, 0, 1, callHeaders()));
        const more = headerBlock([["x-more", "x".repeat(8000)]]);
        const frames = await writeMany(socket, frame(frameType.continuation, 0, 1, more), 20_000);
        await closed(socket);
        return frames;
      }),
    );
    const most = Math.max(...sent);
    t.diagnostic(`CONTINUATION frames written before the connection ended: ${most} of 20,000 at most`);
    assert.ok(most < 20_000);
  });
});

test("headers that are small on the wire and large in memory are refused, stream by stream", async (t) => {
  await target.attack(t, "HPACK references to a large field, 10 connections", 300, async () => {
    await Promise.all(
      Array.from({ length: 10 }, async () => {
        const socket = openSocket(target.port);
        socket.write(preface);
        // A literal with incremental indexing: 3,900 bytes that each later byte 0xbe names again (RFC 7541, 6.1).
        const large = headerBlock([["x-large", "y".repeat(3900)]]);
        large[0] = 0x40;
        const bomb = Buffer.concat([callHeaders(), large, Buffer.alloc(8000, 0xbe)]);
        for (let stream = 1; stream < 400 && !socket.destroyed; stream += 2) {
          await writeMany(
            socket,
            frame(frameType.headers, flag.endHeaders | flag.endStream, stream, bomb),
            1,
          );
        }
        socket.end();
        await closed(socket);
      }),
    );
  });
});

test("PINGs and SETTINGS whose answers are not read end their connection or wait in the socket", async (t) => {
  await target.attack(t, "PING and SETTINGS floods, 10 connections of 200,000 frames", 300, async () => {
    await Promise.all(
      Array.from({ length: 10 }, async (_, i) => {
        const socket = openSocket(target.port);
        socket.pause();
        socket.write(preface);
        const each =
          i % 2 === 0 ? frame(frameType.ping, 0, 0, Buffer.alloc(8)) : frame(frameType.settings, 0, 0);
        const many = Buffer.concat(Array.from({ length: 1000 }, () => each));
        // The server may stop to read, rather than answer without end: that is as good.
        await Promise.race([
          writeMany(socket, many, 200),
          new Promise((resolve) => setTimeout(resolve, 5000)),
        ]);
        socket.destroy();
        await closed(socket);
      }),
    );
  });
});

test("streams beyond those that a connection may have are refused, and the others end when their client goes", async (t) => {
  await target.attack(t, "20 connections of 1,000 streams without an end", 300, async () => {
    await Promise.all(
      Array.from({ length: 20 }, async () => {
        const socket = openSocket(target.port);
        socket.write(preface);
        for (let stream = 1; stream < 2000; stream += 2) {
          await writeMany(
            socket,
            frame(frameType.headers, flag.endHeaders, stream, callHeaders(target.token)),
            1,
          );
        }
        await new Promise((resolve) => setTimeout(resolve, 500));
        socket.destroy();
        await closed(socket);
      }),
    );
  });
});

test("answers that their clients do not take hold no room of others, and end in time", async (t) => {
  const own = await startTarget({ LATCHKEY_MAX_CONCURRENT_RPCS: "40", LATCHKEY_MAX_UNARY_MS: "1000" });
  await own.attack(t, "answers that are not taken, to 300 calls where 40 may run", 100, async () => {
    for (const token of [createUnknownToken(), undefined]) {
      const session = connectHttp2(own.url, { settings: { initialWindowSize: 0 } });
      session.on("error", () => {});
      await once(session, "remoteSettings");
      const calls = Array.from({ length: 150 }, () => {
        const call = session.request({
          ":method": "POST",
          ":path": "/api.users.UserService/GetUser",
          "content-type": "application/json",
          ...(token !== undefined && { "x-api-key": token }),
        });
        call.on("error", () => {}).resume();
        call.end('{"userId":"1"}');
        return call;
      });
      // Answered, as its headers tell, but not to be sent: there is no window for a body.
      await Promise.all(calls.map((call) => once(call, "response")));
      // All are ended by the server, though the client does nothing.
      await Promise.all(
        calls.map((call) => call.closed || new Promise((resolve) => call.once("close", resolve))),
      );
      session.destroy();
    }
  });
  await own.stop(t);
});

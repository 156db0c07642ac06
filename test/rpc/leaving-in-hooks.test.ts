/** Clients that leave while a hook of Fastify's waits hold nothing. */
import assert from "node:assert/strict";
import { connect as connectHttp2, constants } from "node:http2";
import { connect } from "node:net";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { startServer } from "../harness/server.ts";
import { until } from "../harness/until.ts";

const path = "/api.users.UserService/GetUser";
const body = '{"userId":"1"}';
const hookMs = 100;
const room = 20;

async function leaveHttp1(url: URL): Promise<void> {
  const socket = connect(Number(url.port), url.hostname);
  socket.on("error", () => {});
  socket.write(
    `POST ${path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n${body}`,
  );
  await sleep(hookMs / 5);
  socket.destroy();
}

async function leaveHttp2(url: URL, contentType: string, leave: "reset" | "disconnect"): Promise<void> {
  const session = connectHttp2(url);
  session.on("error", () => {});
  const stream = session.request({ ":method": "POST", ":path": path, "content-type": contentType });
  stream.on("error", () => {});
  stream.write("{");
  await sleep(hookMs / 5);
  if (leave === "reset") {
    stream.close(constants.NGHTTP2_CANCEL);
    await sleep(hookMs);
  }
  session.destroy();
}

for (const [name, leave] of [
  ["HTTP/1.1", leaveHttp1],
  ["HTTP/2", (url: URL) => leaveHttp2(url, "application/json", "disconnect")],
  ["HTTP/2, by a reset", (url: URL) => leaveHttp2(url, "application/json", "reset")],
  ["gRPC", (url: URL) => leaveHttp2(url, "application/grpc", "reset")],
] as const) {
  test(`more clients than there is room for leave while a hook waits, and none is left: ${name}`, async (t) => {
    let hooked = 0;
    const server = await startServer(
      { maxConcurrentRpcs: room, maxUnaryMs: 1000 },
      {
        plugins(app) {
          app.addHook("onRequest", async () => {
            hooked++;
            await sleep(hookMs);
          });
        },
      },
    );
    t.after(() => server.close());
    await Promise.all(Array.from({ length: room + 5 }, () => leave(new URL(server.url))));
    await until(
      () => hooked,
      (count) => count >= room + 5,
    );
    // Itself alone.
    await until(
      async () => (await server.asStaff.server.getServer({})).health?.runningRpcs,
      (running) => running === 1,
    );
    const answer = await fetch(`${server.url}${path}`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body,
    });
    assert.equal(answer.status, 200);
  });
}

/** Clients that leave while a hook of Fastify's waits hold nothing. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { connect as connectHttp2, constants } from "node:http2";
import { connect } from "node:net";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { startServer } from "../harness/server.ts";
import { until } from "../harness/until.ts";

const path = "/api.users.UserService/GetUser";
const body = '{"userId":"1"}';
const room = 20;
const many = room + 5;

/** Sends a call, and returns how its client leaves. */
type Begin = (url: URL) => () => Promise<unknown>;

const beginHttp1: Begin = (url) => {
  const socket = connect(Number(url.port), url.hostname);
  socket.on("error", () => {});
  socket.write(
    `POST ${path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n${body}`,
  );
  return () => once(socket.destroy(), "close");
};

const beginHttp2 =
  (contentType: string, leave: "reset" | "disconnect"): Begin =>
  (url) => {
    const session = connectHttp2(url);
    session.on("error", () => {});
    const stream = session.request({ ":method": "POST", ":path": path, "content-type": contentType });
    stream.on("error", () => {});
    stream.write("{");
    return async () => {
      if (leave === "reset") {
        stream.close(constants.NGHTTP2_CANCEL);
        // Its answer comes after the server has read the reset.
        await new Promise((resolve) => session.ping(resolve));
      }
      session.destroy();
    };
  };

for (const [name, begin] of [
  ["HTTP/1.1", beginHttp1],
  ["HTTP/2", beginHttp2("application/json", "disconnect")],
  ["HTTP/2, by a reset", beginHttp2("application/json", "reset")],
  ["gRPC", beginHttp2("application/grpc", "reset")],
] as const) {
  test(`more clients than there is room for leave while a hook waits, and none is left: ${name}`, async (t) => {
    let hooked = 0;
    let goOn = () => {};
    const gone = new Promise<void>((resolve) => {
      goOn = resolve;
    });
    const server = await startServer(
      { maxConcurrentRpcs: room },
      {
        plugins(app) {
          app.addHook("onRequest", async () => {
            hooked++;
            await gone;
          });
        },
      },
    );
    t.after(() => server.close());
    const leave = Array.from({ length: many }, () => begin(new URL(server.url)));
    await until(
      () => hooked,
      (count) => count === many,
    );
    await Promise.all(leave.map((one) => one()));
    // The server reads that they have gone.
    await sleep(100);
    goOn();
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

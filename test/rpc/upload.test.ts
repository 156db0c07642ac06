/** An upload that is refused is not read. */
import assert from "node:assert/strict";
import http from "node:http";
import http2 from "node:http2";
import type { Socket } from "node:net";
import { after, before, test } from "node:test";
import { startServer, type TestServer } from "../harness/server.ts";

const uploadBytes = 100 * 1024 * 1024;
const mayReadBytes = 1024 * 1024;
const path = "/api.users.UserService/UpdateProfile";

let latchkey: TestServer;
/** Bytes that the server has taken from its sockets, all of them: the largest that any one showed. */
let readBytes = 0;

before(async () => {
  latchkey = await startServer();
  latchkey.server.app.server.on("connection", (socket: Socket) => {
    const look = setInterval(() => {
      readBytes = Math.max(readBytes, socket.bytesRead);
    }, 5);
    socket.once("close", () => {
      clearInterval(look);
      readBytes = Math.max(readBytes, socket.bytesRead);
    });
  });
});
after(() => latchkey.close());

/** Writes up to 100 MB into a request, as fast as it is taken, until it ends. */
function upload(request: NodeJS.WritableStream & { destroyed?: boolean }): void {
  const chunk = Buffer.alloc(64 * 1024);
  let left = uploadBytes;
  const more = () => {
    while (left > 0 && !request.destroyed) {
      left -= chunk.length;
      if (!request.write(chunk)) return void request.once("drain", more);
    }
    if (!request.destroyed) request.end();
  };
  request.on("error", () => {});
  more();
}

test("over HTTP/1.1, a 100 MB upload without a credential is refused before 1 MB of it is read", async () => {
  readBytes = 0;
  const request = http.request(`${latchkey.url}${path}`, {
    method: "POST",
    headers: { "content-type": "application/proto", "content-length": uploadBytes },
  });
  const answered = new Promise<http.IncomingMessage>((resolve, reject) => {
    request.once("response", resolve);
    request.once("close", () => reject(new Error("closed without an answer")));
  });
  upload(request);
  const response = await answered;
  assert.equal(response.statusCode, 401);
  assert.match(await text(response), /"unauthenticated"/);
  await new Promise((resolve) => (request.destroyed ? resolve(undefined) : request.once("close", resolve)));
  assert.ok(readBytes > 0 && readBytes < mayReadBytes, `${readBytes} bytes were read`);
});

test("over HTTP/2, a 100 MB upload without a credential is refused before 1 MB of it is read", async () => {
  readBytes = 0;
  const session = http2.connect(latchkey.url);
  for (const [type, expected] of [
    ["application/proto", "401"],
    ["application/grpc", "200"],
  ]) {
    const request = session.request({
      ":method": "POST",
      ":path": path,
      "content-type": type,
      te: "trailers",
    });
    const trailers: http2.IncomingHttpHeaders = {};
    request.on("trailers", (seen) => Object.assign(trailers, seen));
    const headers = new Promise<http2.IncomingHttpHeaders>((resolve) => request.once("response", resolve));
    const closed = new Promise((resolve) => request.once("close", resolve));
    upload(request);
    request.resume();
    const seen = await headers;
    assert.equal(String(seen[":status"]), expected);
    await closed;
    if (type === "application/grpc") assert.equal(trailers["grpc-status"] ?? seen["grpc-status"], "16");
  }
  assert.ok(readBytes > 0 && readBytes < mayReadBytes, `${readBytes} bytes were read`);
  // The connection goes on to serve.
  const next = session.request({
    ":method": "POST",
    ":path": "/api.users.UserService/GetUser",
    "content-type": "application/json",
  });
  next.end('{"userId":"1"}');
  const status = await new Promise((resolve) => next.once("response", (head) => resolve(head[":status"])));
  assert.equal(status, 200);
  session.close();
});

async function text(stream: AsyncIterable<Buffer>): Promise<string> {
  let all = "";
  for await (const chunk of stream) all += chunk;
  return all;
}

/** Over TLS a request may come while the answer to the one before is still on its way: it is answered. */
import assert from "node:assert/strict";
import { once } from "node:events";
import net, { type AddressInfo } from "node:net";
import { test } from "node:test";
import { connect } from "node:tls";
import { createListener } from "../../src/listener.ts";
import { finallyDo } from "../harness/finally-do.ts";
import { listenerOptions } from "../harness/listener-options.ts";
import { pem } from "../harness/pem.ts";
import { until } from "../harness/until.ts";

/** More than the network takes in while nobody reads. */
const large = Buffer.alloc(16 * 1024 * 1024, "x");

/** A record each. */
const second = ["POST /small HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\n", "one", "two", "six"];

/** How many records of TLS the bytes are. */
function records(bytes: Buffer): number {
  let count = 0;
  for (let at = 0; at + 5 <= bytes.length; at += 5 + bytes.readUInt16BE(at + 3)) count++;
  return count;
}

test("over TLS a request in several records, behind a large answer that nobody has read yet, is answered", {
  timeout: 60_000,
}, async (t) => {
  let requests = 0;
  const listener = createListener(listenerOptions({ nodeHttp: true, tls: pem }), (req, res) => {
    requests++;
    req.resume().once("end", () => res.end(req.url === "/large" ? large : "small"));
  });
  finallyDo(t, async () => {
    const closed = listener.close();
    listener.destroy();
    await closed;
  });
  await once(listener.server.listen(0, "127.0.0.1"), "listening");
  const { port } = listener.server.address() as AddressInfo;
  // Between the two: what the client sends is held back, and comes to the server in one piece.
  let held: Buffer | undefined;
  const link = net.createServer((client) => {
    const upstream = net.connect(port, "127.0.0.1");
    client.on("data", (chunk: Buffer) => {
      if (held === undefined) upstream.write(chunk);
      else held = Buffer.concat([held, chunk]);
      if (held === undefined || records(held) < second.length) return;
      upstream.write(held);
      held = undefined;
    });
    upstream.pipe(client);
    for (const side of [client, upstream]) {
      side
        .on("error", () => {})
        .on("close", () => {
          client.destroy();
          upstream.destroy();
        });
    }
  });
  await once(link.listen(0, "127.0.0.1"), "listening");
  finallyDo(t, () => new Promise((resolve) => link.close(resolve)));
  const through = (link.address() as AddressInfo).port;
  const socket = connect({ host: "127.0.0.1", port: through, ca: pem.cert, servername: "localhost" });
  finallyDo(t, async () => socket.destroy());
  await once(socket, "secureConnect");
  socket.pause();
  socket.write("POST /large HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n");
  await until(
    () => requests,
    (n) => n === 1,
  );
  held = Buffer.alloc(0);
  for (const part of second) await new Promise((resolve) => socket.write(part, resolve));
  await until(
    () => requests,
    (n) => n === 2 || socket.destroyed,
  );
  let length = 0;
  let last = "";
  socket.on("data", (chunk: Buffer) => {
    length += chunk.length;
    last = (last + chunk.subarray(-5).toString("latin1")).slice(-5);
  });
  socket.resume();
  await until(
    () => last,
    (end) => end === "small" || socket.destroyed,
  );
  assert.equal(last, "small");
  assert.ok(length > large.length);
});

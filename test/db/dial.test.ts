/** The sockets to the database: one that answers nothing more is cut, however it fell silent. */
import assert from "node:assert/strict";
import { once } from "node:events";
import net from "node:net";
import { test } from "node:test";
import { createDialer } from "../../src/db/dial.ts";

/** A dialer to a host that answers the first message on each connection, and no other. */
async function dialerToMute() {
  const server = net.createServer((socket) => {
    // ReadyForQuery
    socket.once("data", () => socket.write("Z\0\0\0\u0005I")).on("error", () => {});
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as net.AddressInfo;
  const find = async () => ({ host: "127.0.0.1", port });
  const tls = { ssl: false, sslnegotiation: undefined };
  const dialer = createDialer({ find, tls, connectTimeoutMs: 5000, silenceMs: 300 });
  return {
    async answered() {
      const socket = await dialer.dial();
      socket.write("first");
      await once(socket, "data");
      return socket;
    },
    close() {
      dialer.close();
      server.close();
    },
  };
}

test("a connection is cut whose last message was sent right after an answer, and no other", {
  timeout: 20_000,
}, async (t) => {
  // Of two hosts: what has not said a word since is cut with the one that is found silent.
  const [one, other] = [await dialerToMute(), await dialerToMute()];
  t.after(() => {
    one.close();
    other.close();
  });
  const idle = await other.answered();
  const silent = await one.answered();
  silent.write("second");
  await once(silent, "close");
  assert.equal(idle.destroyed, false);
});

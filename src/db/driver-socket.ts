/** Sockets for postgres.js 3.4.9, which survives few of the ways in which a connection can end. */
import type net from "node:net";

/**
 * "Authenticate by SCRAM-SHA-256", as Postgres asks for it. Of all that a server may say first, this has
 * postgres.js answer at once, with 56 bytes and without the password.
 */
const saslRequest = (() => {
  const mechanisms = "SCRAM-SHA-256\0\0";
  const message = Buffer.alloc(9 + mechanisms.length);
  message.write("R");
  message.writeInt32BE(message.length - 1, 1);
  message.writeInt32BE(10, 5);
  message.write(mechanisms, 9);
  return message;
})();
/** Enough for 1024 bytes of answers: so many are written at once. */
const saslRequests = Buffer.concat(Array.from({ length: 24 }, () => saslRequest));

const nextTurn = () => new Promise((resolve) => setImmediate(resolve));
const ignore = (): void => {};

/**
 * Prepares a connected socket that postgres.js is about to be given.
 *
 * - It is told that a socket has closed as soon as nothing more comes of it. What it sent between an
 *   error, or the end, and the "close" of Node would never be answered, nor fail.
 * - What it held back for the next turn of the event loop as a connection closed stays in its buffer, and
 *   from then on nothing of that connection is ever written: each that replaces it would time out
 *   (`nextWriteTimer` in its `connection.js`). The buffer is emptied here, and the socket given up: it
 *   connects again.
 */
export function prepareForDriver(socket: net.Socket): void {
  const [write, emit] = [socket.write.bind(socket), socket.emit.bind(socket)] as [Write, Emit];
  let wrote = false;
  let emptying = false;
  Object.assign(socket, {
    write(...args: unknown[]) {
      if (emptying) return true;
      const [chunk] = args;
      // What was left of the last connection stands before the first message, whose length comes first.
      if (!wrote && chunk instanceof Buffer && chunk.readInt32BE(0) !== chunk.length) {
        emptying = true;
        setImmediate(giveUp, socket);
        return true;
      }
      wrote = true;
      return write(...args);
    },
    emit(event: string | symbol, ...args: unknown[]) {
      const heard = emit(event, ...args);
      if (event === "error") tellClosed(socket, true);
      else if (event === "end") giveUp(socket);
      return heard;
    },
  });
  void emptyWhereBlocked();

  async function emptyWhereBlocked(): Promise<void> {
    // Not blocked, it writes in the turn after the one in which it was given the socket.
    await nextTurn();
    await nextTurn();
    if (wrote || socket.destroyed || socket.listenerCount("data") === 0) return;
    emptying = true;
    emit("data", saslRequests);
    await nextTurn();
    await nextTurn();
    giveUp(socket);
  }
}

type Write = (...args: unknown[]) => boolean;
type Emit = (event: string | symbol, ...args: unknown[]) => boolean;

/**
 * Cuts a connection. Without an error: what ran on it fails with CONNECTION_CLOSED.
 */
export function giveUp(socket: net.Socket): void {
  if (socket.destroyed) return;
  socket.destroy();
  tellClosed(socket, false);
}

/** Once: it takes its listeners away. */
function tellClosed(socket: net.Socket, failed: boolean): void {
  socket.emit("close", failed);
  socket.on("error", ignore);
}

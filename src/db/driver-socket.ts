/** Sockets for postgres.js 3.4.9, which survives few of the ways in which a connection can end. */
import type net from "node:net";
import { setImmediate as nextTurn } from "node:timers/promises";
import { connectionError } from "./connection-error.ts";
import { ServerMessages } from "./server-messages.ts";

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

/** What stands after the length of a request to cancel a statement: it is answered by the end alone. */
const cancelRequest = 80_877_102;

const ignore = (): void => {};

type Write = (...args: unknown[]) => boolean;
type Emit = (event: string | symbol, ...args: unknown[]) => boolean;

/**
 * Prepares a connected socket that postgres.js is about to be given. Returns what cuts it: what runs
 * on it then fails with CONNECTION_CLOSED.
 *
 * - postgres.js is told that a socket has closed as soon as nothing more comes of it. What it sent
 *   between an error, or the end, and the "close" of Node would never be answered, nor fail.
 * - Where a session ends before it has begun, that is an error: else postgres.js would connect again and
 *   again, and its first statement never fail.
 * - What comes with an answer is told a turn later. A transaction that goes on from that answer would
 *   write to a connection that is closed already: an exception that nobody can catch.
 * - An error with which the server ends the session is an error of the connection. As an answer it would
 *   be kept, and be told to the first statement of the next connection.
 * - What postgres.js held back for the next turn of the event loop as a connection closed stays in its
 *   buffer, and from then on nothing of that connection is ever written: each that replaces it would time
 *   out (`nextWriteTimer` in its `connection.js`). The buffer is emptied here, and the socket given up
 *   without an error: it connects again.
 */
export function prepareForDriver(socket: net.Socket): () => void {
  const [write, emit] = [socket.write.bind(socket), socket.emit.bind(socket)] as [Write, Emit];
  const messages = new ServerMessages();
  let wrote = false;
  let emptying = false;
  let isCancelRequest = false;
  /** With which the server has ended the session. */
  let ended: Error | undefined;

  function close(error?: Error): void {
    if (socket.destroyed) return;
    socket.destroy();
    if (error !== undefined) emit("error", error);
    tellClosed(error !== undefined);
  }

  /** Once: it takes its listeners away. */
  function tellClosed(failed: boolean): void {
    emit("close", failed);
    socket.on("error", ignore);
  }

  function cut(): void {
    close(
      ended !== undefined || messages.ready || isCancelRequest
        ? ended
        : connectionError("CONNECTION_CLOSED", "the connection to the database ended before it was ready"),
    );
  }

  Object.assign(socket, {
    write(...args: unknown[]) {
      if (emptying) return true;
      const [chunk] = args;
      // What was left of the last connection stands before the first message, whose length comes first.
      if (!wrote && chunk instanceof Buffer && (chunk.length < 4 || chunk.readInt32BE(0) !== chunk.length)) {
        emptying = true;
        setImmediate(close);
        return true;
      }
      if (!wrote) isCancelRequest = chunk instanceof Buffer && isCancel(chunk);
      wrote = true;
      return write(...args);
    },
    emit(event: string | symbol, ...args: unknown[]) {
      if (event === "data") {
        const { pass, fatal } = messages.read(args[0] as Buffer);
        if (pass.length > 0) emit(event, pass);
        if (fatal === undefined) return true;
        ended = fatal;
        if (pass.length === 0) cut();
        else setImmediate(cut);
        return true;
      }
      const heard = emit(event, ...args);
      if (event === "error") tellClosed(true);
      else if (event === "end") cut();
      return heard;
    },
  });
  void emptyWhereBlocked();
  return cut;

  async function emptyWhereBlocked(): Promise<void> {
    // Not blocked, it writes in the turn after the one in which it was given the socket.
    await nextTurn();
    await nextTurn();
    if (wrote || socket.destroyed || socket.listenerCount("data") === 0) return;
    emptying = true;
    emit("data", saslRequests);
    await nextTurn();
    await nextTurn();
    close();
  }
}

function isCancel(chunk: Buffer): boolean {
  return chunk.length === 16 && chunk.readInt32BE(4) === cancelRequest;
}

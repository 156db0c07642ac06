/**
 * Preloaded into a server (`node --expose-gc --import …`): says over a socket of its
 * own, whose path REPORT_OBJECTS is, what it still holds after a collection.
 */
import { EventEmitter } from "node:events";
import { createServer, Socket } from "node:net";
import { queryObjects } from "node:v8";

export interface Held {
  /** With buffers outside of the heap. */
  readonly bytes: number;
  /** Whatever emits events: sessions, streams, requests and answers among them. */
  readonly emitters: number;
  /** Of TCP, TLS and the like. */
  readonly sockets: number;
}

const count = { format: "count" } as const;
const path = process.env.REPORT_OBJECTS;
if (path !== undefined) {
  const server = createServer((socket) => {
    socket.on("error", () => {});
    globalThis.gc?.();
    const { heapUsed, external } = process.memoryUsage();
    const held: Held = {
      bytes: heapUsed + external,
      emitters: queryObjects(EventEmitter, count) as number,
      sockets: queryObjects(Socket, count) as number,
    };
    socket.end(JSON.stringify(held));
  });
  server.listen({ path, exclusive: true });
  server.unref();
}

/** Frames of HTTP/2 for a test that is one side of a connection by itself. */
import { once } from "node:events";
import { connect, createServer, type Socket } from "node:net";
import { frame } from "../faults/frames.ts";

export const preface = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");

export const frameTypes = { data: 0, headers: 1, resetStream: 3, settings: 4, goaway: 7, continuation: 9 };
export { frame };
export const endStream = 0x1;
export const endHeaders = 0x4;

export interface Frame {
  readonly type: number;
  readonly flags: number;
  readonly streamId: number;
  readonly payload: Buffer;
}

/** A header block in a HEADERS frame and as many CONTINUATION frames as it takes. */
export function headers(streamId: number, block: Uint8Array, flags: number, maxBytes = 16_384): Buffer {
  const frames: Buffer[] = [];
  for (let at = 0; at === 0 || at < block.length; at += maxBytes) {
    const isFirst = at === 0;
    const isLast = at + maxBytes >= block.length;
    frames.push(
      frame(
        isFirst ? frameTypes.headers : frameTypes.continuation,
        (isFirst ? flags : 0) | (isLast ? endHeaders : 0),
        streamId,
        block.subarray(at, at + maxBytes),
      ),
    );
  }
  return Buffer.concat(frames);
}

/** Calls back for each frame that comes. */
export function readFrames(socket: Socket, skip: number, onFrame: (frame: Frame) => void): void {
  let rest = Buffer.alloc(0);
  let toSkip = skip;
  socket.on("data", (chunk: Buffer) => {
    rest = Buffer.concat([rest, chunk]);
    if (toSkip > 0) {
      if (rest.length < toSkip) return;
      rest = rest.subarray(toSkip);
      toSkip = 0;
    }
    while (rest.length >= 9) {
      const end = 9 + rest.readUIntBE(0, 3);
      if (rest.length < end) return;
      const [type, flags, streamId] = [rest[3]!, rest[4]!, rest.readUInt32BE(5)];
      const payload = rest.subarray(9, end);
      rest = rest.subarray(end);
      onFrame({ type, flags, streamId, payload });
    }
  });
}

/** Calls back for each whole header block. */
export function readBlocks(onBlock: (streamId: number, block: Buffer) => void): (frame: Frame) => void {
  let fragments: Buffer[] = [];
  return ({ type, flags, streamId, payload }) => {
    if (type !== frameTypes.headers && type !== frameTypes.continuation) return;
    let from = 0;
    let to = payload.length;
    if (type === frameTypes.headers) {
      if ((flags & 0x8) !== 0) {
        to -= payload[0]!;
        from++;
      }
      if ((flags & 0x20) !== 0) from += 5;
    }
    fragments.push(payload.subarray(from, to));
    if ((flags & endHeaders) === 0) return;
    onBlock(streamId, Buffer.concat(fragments));
    fragments = [];
  };
}

/** A server of bare sockets, on a port of its own. */
export async function listen(
  onSocket: (socket: Socket) => void,
): Promise<{ port: number } & AsyncDisposable> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on("error", () => {});
    onSocket(socket);
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    port: (server.address() as { port: number }).port,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, "close");
    },
  };
}

export async function dial(port: number): Promise<Socket> {
  const socket = connect(port, "127.0.0.1");
  socket.on("error", () => {});
  await once(socket, "connect");
  return socket;
}

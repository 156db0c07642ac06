/** HTTP/2 by hand (RFC 9113): what no well-behaved client sends. */
import { connect, type Socket } from "node:net";

export const frameType = {
  data: 0,
  headers: 1,
  priority: 2,
  rstStream: 3,
  settings: 4,
  pushPromise: 5,
  ping: 6,
  goaway: 7,
  windowUpdate: 8,
  continuation: 9,
};
export const flag = { ack: 1, endStream: 1, endHeaders: 4, padded: 8, priority: 0x20 };

export function frame(type: number, flags: number, stream: number, payload: Uint8Array = Buffer.alloc(0)) {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head[3] = type;
  head[4] = flags;
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}

/** What a client sends before its SETTINGS (section 3.4). */
export const magic = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
export const preface = Buffer.concat([magic, frame(frameType.settings, 0, 0)]);

/** The payload of WINDOW_UPDATE and RST_STREAM, and much else. */
export function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

/** Header fields in HPACK (RFC 7541) as literals without indexing. */
export function headerBlock(fields: readonly (readonly [string, string])[]): Buffer {
  return Buffer.concat(fields.flatMap(([name, value]) => [Buffer.from([0]), literal(name), literal(value)]));
}

function literal(text: string): Buffer {
  const bytes = Buffer.from(text, "latin1");
  const length: number[] = [];
  if (bytes.length < 127) length.push(bytes.length);
  else {
    length.push(127);
    let rest = bytes.length - 127;
    for (; rest >= 128; rest >>= 7) length.push((rest & 127) | 128);
    length.push(rest);
  }
  return Buffer.concat([Buffer.from(length), bytes]);
}

/** The headers of a gRPC call of GetUser. */
export function callHeaders(token?: string): Buffer {
  return headerBlock([
    [":method", "POST"],
    [":scheme", "http"],
    [":path", "/api.users.UserService/GetUser"],
    [":authority", "latchkey.test"],
    ["content-type", "application/grpc"],
    ["te", "trailers"],
    ...(token === undefined ? [] : [["x-api-key", token] as const]),
  ]);
}

/** A connection that takes whatever comes, errors included, and counts it. */
export function openSocket(port: number, options: { allowHalfOpen?: boolean } = {}): Socket {
  const socket = connect({ port, host: "127.0.0.1", ...options });
  socket.setNoDelay(true).on("error", () => {});
  socket.resume();
  return socket;
}

/** Resolves once a socket is closed, by whichever side. */
export function closed(socket: Socket): Promise<void> {
  return socket.closed ? Promise.resolve() : new Promise((resolve) => socket.once("close", () => resolve()));
}

/** Writes as long as the other side takes it and the connection is open; resolves with how often. */
export async function writeMany(socket: Socket, chunk: Uint8Array, times: number): Promise<number> {
  let written = 0;
  while (written < times && !socket.destroyed && socket.writable) {
    written++;
    if (!socket.write(chunk)) {
      await new Promise<void>((resolve) => {
        socket.once("drain", resolve);
        socket.once("close", resolve);
      });
    }
  }
  return written;
}

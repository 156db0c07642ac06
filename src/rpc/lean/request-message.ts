/** Finds the one message in a body. */
import { decodeText } from "../grpc-web-text.ts";
import type { Codec } from "./codec.ts";

export const frameHeadBytes = 5;

/**
 * The bytes of the message, a copy: what is read of it may be kept, and must not keep the
 * buffer that it came in. Undefined: the body is not one whole uncompressed message, and
 * Connect's handlers are to say what it is.
 */
export function readMessage(codec: Codec, body: Uint8Array): Uint8Array | undefined {
  const bytes = codec.isText ? fromText(body) : body;
  if (bytes === undefined || !codec.isFramed) return bytes;
  if (bytes.byteLength < frameHeadBytes || bytes[0] !== 0) return undefined;
  if (announced(bytes) !== bytes.byteLength - frameHeadBytes) return undefined;
  return new Uint8Array(bytes.subarray(frameHeadBytes));
}

/** The length that a frame says its message has. */
export function announced(frame: Uint8Array): number {
  const [, a = 0, b = 0, c = 0, d = 0] = frame;
  return a * 0x1000000 + (b << 16) + (c << 8) + d;
}

function fromText(body: Uint8Array): Uint8Array | undefined {
  try {
    return decodeText(Buffer.from(body.buffer, body.byteOffset, body.byteLength).toString("latin1"));
  } catch {
    return undefined;
  }
}

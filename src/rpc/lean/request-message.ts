/** Finds the one message in a body. */
import { decodeText } from "../grpc-web-text.ts";
import type { Codec } from "./codec.ts";

export const frameHeadBytes = 5;

/**
 * The bytes of the message, a copy: what is read of it may be kept, and must not keep the
 * buffer that it came in. `keepsBytes`: the message has fields of bytes, which are a part of
 * the copy. Undefined: the body is not one whole uncompressed message, and
 * Connect's handlers are to say what it is.
 */
export function readMessage(codec: Codec, body: Uint8Array, keepsBytes: boolean): Uint8Array | undefined {
  const bytes = codec.isText ? fromText(body) : body;
  if (bytes === undefined || !codec.isFramed) return bytes;
  if (bytes.byteLength < frameHeadBytes || bytes[0] !== 0) return undefined;
  if (announced(bytes) !== bytes.byteLength - frameHeadBytes) return undefined;
  return keepsBytes ? new Uint8Array(bytes.subarray(frameHeadBytes)) : copyToPage(bytes);
}

const equalsSign = 0x3d;

/** A small buffer of its own for each message costs more than all else that is done with it. */
let page = new ArrayBuffer(0);
let used = 0;
const pageBytes = 16 * 1024;

/**
 * The message of a frame, on a page that it shares with others where it is small: for
 * messages of which nothing but what is unknown stays in the bytes that it was read from.
 */
function copyToPage(frame: Uint8Array): Uint8Array {
  const length = frame.byteLength - frameHeadBytes;
  if (length > pageBytes / 16) return new Uint8Array(frame.subarray(frameHeadBytes));
  if (used + length > page.byteLength) {
    page = new ArrayBuffer(pageBytes);
    used = 0;
  }
  const message = new Uint8Array(page, used, length);
  for (let i = 0; i < length; i++) message[i] = frame[frameHeadBytes + i] ?? 0;
  used += length;
  return message;
}

/** The length that a frame says its message has. */
export function announced(frame: Uint8Array): number {
  const at = (index: number) => frame[index] ?? 0;
  return at(1) * 0x1000000 + (at(2) << 16) + (at(3) << 8) + at(4);
}

/** The bytes that so much base64 stands for, whose parts may each have padding of their own. */
export function textBytes(body: Uint8Array): number {
  return Math.max(0, Math.floor(body.byteLength * 0.75) - countPadding(body));
}

function countPadding(body: Uint8Array): number {
  let padding = 0;
  for (let i = 0; i < body.byteLength; i++) if (body[i] === equalsSign) padding++;
  return padding;
}

/** A message, its trailers and what a client may put between them have padding each. */
const mostPadding = 32;

function fromText(body: Uint8Array): Uint8Array | undefined {
  // Of so many parts that decoding them takes long: Connect's path does it bit by bit.
  if (countPadding(body) > mostPadding) return undefined;
  try {
    return decodeText(Buffer.from(body.buffer, body.byteOffset, body.byteLength).toString("latin1"));
  } catch {
    return undefined;
  }
}

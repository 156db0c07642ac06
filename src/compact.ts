/** Bytes and texts that are kept, without what they were read with. */

/** A copy of a text that may be a part of a longer one, all of which it would keep. */
export function compactText(text: string): string {
  return Buffer.from(text, "utf16le").toString("utf16le");
}

/** A copy of what is a small part of what was read with it, all of which it would keep. */
export function compact<T extends Uint8Array>(chunk: T): T {
  if (chunk.byteLength * 4 >= chunk.buffer.byteLength) return chunk;
  // Not of Buffer's own making, whose small ones share a pool.
  return Uint8Array.prototype.slice.call(chunk) as T;
}

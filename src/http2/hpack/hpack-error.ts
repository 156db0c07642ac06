/** A header block that cannot be decoded: an error of the whole connection, COMPRESSION_ERROR (RFC 9113, section 4.3). */
export class HpackError extends Error {
  override readonly name = "HpackError";
}

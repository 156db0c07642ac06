/** gRPC-Web as base64 text, for clients that cannot read bytes (gRPC-Web protocol, "Content-Type"). */
import { Code, ConnectError } from "@connectrpc/connect";

const pattern = /^application\/grpc-web-text(\+(?:proto|json))?$/i;

/** The content type of the same in bytes; undefined: this is no text. */
export function bytesContentType(contentType: string): string | undefined {
  const match = pattern.exec(contentType);
  return match === null ? undefined : `application/grpc-web${match[1] ?? ""}`;
}

/** The content type of an answer in text, from that of the answer in bytes. */
export function textContentType(bytesType: string): string {
  return bytesType.replace("grpc-web", "grpc-web-text");
}

/**
 * Decodes text in whole. Each message may have been encoded by itself, with padding of
 * its own. Throws `invalid_argument` for what is no base64.
 */
export function decodeText(text: string): Buffer {
  if (!/^(?:[A-Za-z0-9+/]{4}|[A-Za-z0-9+/]{3}=|[A-Za-z0-9+/]{2}==)*$/.test(text)) throw notBase64();
  if (!text.includes("=")) return Buffer.from(text, "base64");
  return Buffer.concat((text.match(/[^=]+=*/g) ?? []).map((part) => Buffer.from(part, "base64")));
}

/** Decodes text as it comes, at whatever byte it is cut. */
export async function* decodeTextChunks(
  body: AsyncIterable<Uint8Array>,
): AsyncGenerator<Uint8Array, void, undefined> {
  let rest = "";
  for await (const chunk of body) {
    rest += Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength).toString("latin1");
    const whole = rest.length - (rest.length % 4);
    if (whole === 0) continue;
    yield decodeText(rest.slice(0, whole));
    rest = rest.slice(whole);
  }
  if (rest !== "") throw notBase64();
}

export async function* encodeTextChunks(
  body: AsyncIterable<Uint8Array>,
): AsyncGenerator<Uint8Array, void, undefined> {
  for await (const chunk of body) yield encodeText(chunk);
}

/** Encodes all of it as one text, with padding at its end alone. */
export async function* encodeTextWhole(
  body: AsyncIterable<Uint8Array>,
): AsyncGenerator<Uint8Array, void, undefined> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of body) chunks.push(chunk);
  yield encodeText(Buffer.concat(chunks));
}

/** Encodes bytes as text, padded. */
export function encodeText(bytes: Uint8Array): Buffer {
  return Buffer.from(
    Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("base64"),
    "latin1",
  );
}

function notBase64(): ConnectError {
  return new ConnectError(
    "the body is not base64, though its content type is application/grpc-web-text",
    Code.InvalidArgument,
  );
}

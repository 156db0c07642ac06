/** The header `traceparent`: which trace a request belongs to (W3C Trace Context, level 1). */
import type { ReadHeader } from "./read-header.ts";

/** Version, trace, span and flags; ff is no version, and zeros name neither trace nor span. */
const traceparentForm = /^(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-|$)/;
const traceparentLength = 55;

/** Its fields; undefined where it is not there or malformed. */
export function readTraceparent(header: ReadHeader): string | undefined {
  const text = header("traceparent");
  if (text === null || text === undefined || !traceparentForm.test(text)) return undefined;
  if (text.length === traceparentLength) return text;
  // Later versions may say more. A slice alone would hold on to all of it for as long as the row waits.
  if (text.startsWith("00")) return undefined;
  return Buffer.from(text.slice(0, traceparentLength), "latin1").toString("latin1");
}

/** The trace that its fields name. */
export function traceIdOf(traceparent: string): string {
  return traceparent.slice(3, 35);
}

/** The trace, 32 hexadecimal digits; undefined where the header is not there or malformed. */
export function readTraceId(header: ReadHeader): string | undefined {
  const traceparent = readTraceparent(header);
  return traceparent && traceIdOf(traceparent);
}

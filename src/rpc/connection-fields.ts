/** Header fields that are between a client and whom it is connected to: no handler's to set. */

/** RFC 9113, section 8.2.2, and TE. Node sends none of them over HTTP/2, and ends the process over one in trailers. */
const names = [
  "connection",
  "http2-settings",
  "keep-alive",
  "proxy-connection",
  "te",
  "transfer-encoding",
  "upgrade",
];

/** Takes them out: a handler that passes on what it was answered elsewhere may have them. */
export function dropConnectionFields(headers: Headers | undefined): void {
  for (const name of names) headers?.delete(name);
}

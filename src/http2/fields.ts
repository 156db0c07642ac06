/** Node's headers as fields in turn: name, value, name, value. */
import type { OutgoingHttpHeaders } from "node:http2";
import { currentDate } from "../http-date.ts";

/** Fields that are no one's to send over HTTP/2 (RFC 9113, section 8.2.2). */
const ofConnections = new Set([
  "connection",
  "keep-alive",
  "proxy-connection",
  "transfer-encoding",
  "upgrade",
]);
const token = /^:?[!#$%&'*+.^_`|~\w-]+$/;
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
const forbidden = /[\0-\x08\x0a-\x1f\x7f\u0100-\uffff]/;

/** Throws where a field is none that HTTP takes. `withDate`: the date is added where there is none. */
export function fieldsOf(headers: OutgoingHttpHeaders, withDate: boolean): string[] {
  const fields: string[] = [];
  // Pseudo-headers stand first.
  const status = headers[":status"];
  if (status !== undefined) fields.push(":status", String(status));
  for (const [given, value] of Object.entries(headers)) {
    if (value === undefined || given === ":status") continue;
    const name = given.toLowerCase();
    if (ofConnections.has(name)) throw new TypeError(`the header ${name} is none of HTTP/2`);
    if (!token.test(name)) throw new TypeError("a header's name is no token");
    if (Array.isArray(value)) for (const one of value) addField(fields, name, String(one).trim());
    else addField(fields, name, String(value).trim());
  }
  if (withDate && headers.date === undefined) fields.push("date", currentDate());
  return fields;
}

function addField(fields: string[], name: string, value: string): void {
  if (forbidden.test(value))
    throw new TypeError(`the header ${name} has a character that HTTP does not take`);
  fields.push(name, value);
}

/**
 * Calls as columns, each a literal of a Postgres array. Written here rather than by
 * postgres.js, which goes over each value with two regular expressions: that was half
 * of what recording a call cost.
 */
import type { EndedCall } from "../auth/call.ts";

/** Names of columns; each is a literal like `{1,2,NULL}`. */
export interface CallColumns {
  readonly times: string;
  readonly ids: string;
  readonly services: string;
  readonly methods: string;
  readonly protocols: string;
  readonly codes: string;
  readonly denials: string;
  readonly users: string;
  readonly keys: string;
  readonly kinds: string;
  readonly durations: string;
  readonly requestBytes: string;
  readonly responseBytes: string;
  readonly peers: string;
  readonly userAgents: string;
  readonly requestIds: string;
  readonly errors: string;
  readonly traces: string;
}

/** `clean` takes out of a text from a caller what must not be stored. */
export function columnsOf(calls: readonly EndedCall[], clean: (text: string) => string): CallColumns {
  const own = memo(quote);
  const said = memo((text) => quote(clean(text)));
  const column = (literal: (call: EndedCall) => string | number | bigint) => arrayOf(calls.map(literal));
  return {
    times: column((call) => call.startedAtMs),
    ids: column((call) => call.id),
    services: column((call) => own(call.method.service)),
    methods: column((call) => own(call.method.name)),
    protocols: column((call) => own(call.protocol)),
    codes: column((call) => call.code),
    denials: column((call) => call.verdict?.denial ?? "NULL"),
    users: column((call) => call.verdict?.subject?.userId ?? "NULL"),
    keys: column((call) => call.verdict?.subject?.apiKeyId ?? "NULL"),
    kinds: column((call) => call.verdict?.credentialKind ?? "none"),
    durations: column((call) => call.durationUs),
    requestBytes: column((call) => call.requestBytes ?? "NULL"),
    responseBytes: column((call) => call.responseBytes ?? "NULL"),
    peers: column((call) => (call.peerAddress ? own(call.peerAddress) : "NULL")),
    userAgents: column((call) => said(call.userAgent)),
    // The server's own unless the client gave one: a UUID needs no quotes.
    requestIds: column(({ requestId, id }) => (requestId === id ? id : quote(clean(requestId)))),
    errors: column(({ errorMessage }) => (errorMessage === undefined ? "NULL" : said(errorMessage))),
    // Hexadecimal digits, whoever named it.
    traces: column(({ traceId }) => traceId ?? "NULL"),
  };
}

/** The literal of an array. Its braces are joined with the rest: added afterwards, they would have all of it copied. */
function arrayOf(values: (string | number | bigint)[]): string {
  if (values.length === 0) return "{}";
  values[0] = `{${values[0]}`;
  values[values.length - 1] = `${values.at(-1)}}`;
  return values.join(",");
}

/** A text within the literal of an array (PostgreSQL, "Array Value Input"). */
export function quote(text: string): string {
  return `"${/["\\]/.test(text) ? text.replace(/["\\]/g, "\\$&") : text}"`;
}

/** Remembers: the calls of a batch share most of their texts. */
function memo(of: (text: string) => string): (text: string) => string {
  const known = new Map<string, string>();
  return (text) => {
    let found = known.get(text);
    if (found === undefined) {
      found = of(text);
      known.set(text, found);
    }
    return found;
  };
}

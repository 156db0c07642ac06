/** What a proxy's own request tells of the one that it asks about. */
import { parseAddress, withoutPort } from "./address-range.ts";
import { type CalledMethod, calledMethod } from "./called-method.ts";
import { joinHeaders, type SentHeaders } from "./sent-headers.ts";

/** ingress-nginx tells the whole URL. */
const urlHeader = "x-original-url";
/** Of nginx, and of Traefik and Caddy. */
const targetHeaders = ["x-original-uri", urlHeader, "x-forwarded-uri"];
const verbHeaders = ["x-original-method", "x-forwarded-method"];

/** Reads a request's headers. Node alone would keep the first of two `authorization`s and say nothing of the other. */
export function readHeaders(rawHeaders: readonly string[]): SentHeaders {
  const fields: [string, string][] = [];
  for (let i = 0; i + 1 < rawHeaders.length; i += 2) fields.push([rawHeaders[i]!, rawHeaders[i + 1]!]);
  return joinHeaders(fields);
}

/**
 * The method that is called. "untold": no header tells of the request, which the
 * proxy's configuration must see to. Headers that tell different things are
 * "ambiguous": one of them is the caller's own.
 */
export function readCalledMethod(
  sent: SentHeaders,
  query: { readonly service?: unknown; readonly method?: unknown },
): CalledMethod | "untold" {
  const { service = "", method = "" } = query;
  if (typeof service !== "string" || typeof method !== "string") return "bad_name";
  const target = agreed(sent, targetHeaders);
  const verb = agreed(sent, verbHeaders);
  if (target === undefined || (verb === undefined && service !== "" && method === "")) return "untold";
  if (target === "ambiguous" || verb === "ambiguous") return "ambiguous";
  return calledMethod({ target, verb: verb ?? "", namedService: service, namedMethod: method });
}

/** The one value that all of these headers have that are there. */
function agreed(sent: SentHeaders, names: readonly string[]): string | "ambiguous" | undefined {
  const told = new Set<string>();
  for (const name of names) {
    // Where it came several times: a joined one holds a space, which no target and no verb does.
    for (const value of sent.get(name)?.split(", ") ?? []) {
      // Of a URL the path: its host is the caller's own.
      told.add(name === urlHeader ? value.replace(/^https?:\/\/[^/?#]+(?=\/)/i, "") : value);
    }
  }
  const [only, ...others] = told;
  return others.length > 0 || only?.includes(" ") ? "ambiguous" : only;
}

/**
 * The address that a request came from to the outermost trusted proxy. Each proxy
 * adds whom it was called by at the end of `x-forwarded-for`: what stands before
 * the first that is not trusted is that one's own word. Undefined where it is no
 * address, or nothing tells.
 */
export function clientAddress(
  forwardedFor: string | undefined,
  isTrusted: (address: string) => boolean,
): string | undefined {
  let address: string | undefined;
  for (const hop of (forwardedFor ?? "").split(",").reverse()) {
    address = parseAddress(withoutPort(hop.trim()));
    if (address === undefined || !isTrusted(address)) break;
  }
  return address;
}

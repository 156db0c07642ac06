/** The cookie that carries a session: its names, and when a request that has it counts. */
import type { ReadHeader } from "./read-header.ts";

/**
 * Its name on a page that came over TLS. Browsers take a cookie of this prefix only
 * from the host itself, with Secure and Path=/: neither a sibling domain nor whoever
 * sits in a plain connection can put one there (RFC 6265bis, section 4.1.3.2).
 */
const secureName = "__Host-latchkey_session";
const plainName = "latchkey_session";

export interface SessionCookie {
  /** Undefined: several came, and nobody knows which one is meant. */
  readonly value: string | undefined;
  readonly isSameOrigin: boolean;
}

/** The session's cookie of a request; undefined: there is none. */
export function readSessionCookie(header: ReadHeader): SessionCookie | undefined {
  const sent = header("cookie");
  if (!sent?.includes(plainName)) return undefined;
  const cookies = sent.split(";").map((pair) => pair.trim());
  const valuesOf = (name: string) =>
    cookies.filter((pair) => pair.startsWith(`${name}=`)).map((pair) => pair.slice(name.length + 1));
  const secure = valuesOf(secureName);
  const values = secure.length > 0 ? secure : valuesOf(plainName);
  if (values.length === 0) return undefined;
  const sameOrigin = isSameOrigin(header, secure.length > 0);
  // Our page over TLS was given the other one: this one can be anybody's.
  if (secure.length === 0 && sameOrigin && isSecurePage(header)) return undefined;
  return { value: values.length === 1 ? values[0] : undefined, isSameOrigin: sameOrigin };
}

/** A `cookie` header without sessions, which are for nobody but this server; undefined: nothing is left of it. */
export function withoutSessions(cookie: string): string | undefined {
  const others = cookie
    .split(";")
    .map((pair) => pair.trim())
    .filter((pair) => ![secureName, plainName].some((name) => pair.startsWith(`${name}=`)));
  return others.length > 0 ? others.join("; ") : undefined;
}

/**
 * Whether the browser says that a page of this very origin sent the request. By
 * Fetch Metadata, which no page can set; a browser that does not tell, being old or
 * on a plain connection, by an Origin that is the host called. A request that a
 * person typed, or followed from elsewhere, proves nothing.
 *
 * Source: https://www.w3.org/TR/fetch-metadata/
 */
function isSameOrigin(header: ReadHeader, isSecure: boolean): boolean {
  const site = header("sec-fetch-site") ?? undefined;
  if (site !== undefined) return site === "same-origin";
  const origin = header("origin") ?? undefined;
  return origin !== undefined && isOwnOrigin(origin, header) && (!isSecure || isSecurePage(header));
}

/**
 * Whether the browser says that a page of another origin sent the request. Not so of
 * clients that are no browsers, which tell neither.
 */
export function isCrossSite(header: ReadHeader): boolean {
  const site = header("sec-fetch-site") ?? undefined;
  if (site !== undefined) return site !== "same-origin";
  const origin = header("origin") ?? undefined;
  return origin !== undefined && !isOwnOrigin(origin, header);
}

function isOwnOrigin(origin: string, header: ReadHeader): boolean {
  const scheme = origin.match(/^https?:\/\//)?.[0];
  const host = header("host") ?? "";
  // As URLs: the port that goes without saying may be said all the same.
  return scheme !== undefined && host !== "" && hostOf(origin) === hostOf(`${scheme}${host}`);
}

function hostOf(url: string): string | undefined {
  return URL.canParse(url) ? new URL(url).host : undefined;
}

/** Whether the page that sent a request came over TLS, which ends at a proxy as often as here. */
function isSecurePage(header: ReadHeader): boolean {
  return header("origin")?.startsWith("https://") ?? false;
}

/**
 * The `set-cookie` that gives a browser its session. `isSecureUrl`: the request itself
 * came over TLS, which decides where the browser does not name its page.
 */
export function sessionCookie(
  value: string,
  options: { header: ReadHeader; isSecureUrl: boolean; maxAgeS: number },
): string {
  const named = options.header("origin") ?? undefined;
  const isSecure = named === undefined ? options.isSecureUrl : isSecurePage(options.header);
  return format(isSecure ? secureName : plainName, value, options.maxAgeS);
}

/** The `set-cookie`s that take a browser's session away. */
export function noSessionCookies(): string[] {
  return [secureName, plainName].map((name) => format(name, "", 0));
}

/** Strict: what comes from elsewhere, by a link too, comes without it. */
function format(name: string, value: string, maxAgeS: number): string {
  const secure = name === secureName ? "; Secure" : "";
  return `${name}=${value}; Path=/; Max-Age=${maxAgeS}; HttpOnly; SameSite=Strict${secure}`;
}

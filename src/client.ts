/**
 * The client's side: sends an API key with every call and reads why one was refused.
 * Needs nothing of the server, and runs in browsers too.
 *
 * @module
 */
import { Code, ConnectError, type Interceptor } from "@connectrpc/connect";
import { ErrorInfoSchema } from "./gen/google/rpc/error_details_pb.js";
import { isPrivateUrl } from "./private-url.ts";

/**
 * Where the token comes from: itself, a file that holds nothing else, or a function that is asked
 * before each call. Where the function gives undefined, the call is sent without one.
 */
export type TokenSource =
  | string
  | {
      /** Path of the file. White space around the token does not count. */
      readonly tokenFile: string;
    }
  | (() => string | undefined | Promise<string | undefined>);

/** How {@link withApiKey} sends the token. */
export interface WithApiKeyOptions {
  /** Header that carries it, default x-api-key. In `authorization` it is sent as `Bearer …` (RFC 6750). */
  header?: string;
  /** Also send it over plain HTTP to other hosts, where whoever is on the way can read it. Default false. */
  allowCleartext?: boolean;
}

/**
 * Creates an interceptor for a client's transport that sends a token with every call. May be shared
 * by any number of transports.
 *
 * A file is read again once it has changed (Node only). While it cannot be read, or is empty because
 * it is just being written, the last token is used. A call that sets the header itself keeps its own.
 *
 * Fails with `failed_precondition`, before anything is sent: where the token would go over plain HTTP
 * to another host than this machine (see `allowCleartext`), where the file cannot be read, and where
 * what was given is no token. Throws a TypeError at once for a string that is none, and where there
 * are no files to read.
 */
export function withApiKey(source: TokenSource, options: WithApiKeyOptions = {}): Interceptor {
  const { header = "x-api-key", allowCleartext = false } = options;
  const read = tokenReader(source);
  const scheme = header.toLowerCase() === "authorization" ? "Bearer " : "";
  return (next) => async (req) => {
    if (req.header.has(header)) return next(req);
    const token = await read();
    if (token === undefined) return next(req);
    if (!allowCleartext && !isPrivateUrl(parse(req.url))) {
      throw cannotSend(
        `the API key is not sent to ${hostOf(req.url)} over plain HTTP: use https, or allowCleartext where the network is trusted`,
      );
    }
    req.header.set(header, scheme + token);
    return next(req);
  };
}

/**
 * Why a call was refused, as it is told to callers. INVALID_API_KEY stands for a malformed and for an
 * unknown one, INVALID_SESSION for the same of a session. A newer server may send others.
 */
export type DenialReason =
  | "MISSING"
  | "INVALID_API_KEY"
  | "INVALID_SESSION"
  | "REVOKED"
  | "EXPIRED"
  | "USER_DISABLED"
  | "STAFF_REQUIRED"
  | "METHOD_NOT_ALLOWED"
  | "ADDRESS_NOT_ALLOWED"
  | "CROSS_SITE"
  | "UNAVAILABLE"
  | (string & {});

/** A refusal, as its caller is told. */
export interface Denial {
  /** Why. */
  readonly reason: DenialReason;
  /** When the key was revoked or expired, for those reasons. */
  readonly since: Date | undefined;
}

/**
 * Reads from an error why Latchkey refused the call; undefined for every other error, such as one of
 * the handler's own. It is the `google.rpc.ErrorInfo` with the domain "latchkey".
 */
export function getDenial(error: unknown): Denial | undefined {
  if (!(error instanceof ConnectError)) return undefined;
  const info = error.findDetails(ErrorInfoSchema).find(({ domain }) => domain === "latchkey");
  if (info === undefined) return undefined;
  const { since } = info.metadata;
  return { reason: info.reason, since: since === undefined ? undefined : new Date(since) };
}

type ReadToken = () => string | undefined | Promise<string | undefined>;

function tokenReader(source: TokenSource): ReadToken {
  if (typeof source === "string") {
    if (!isToken(source)) throw new TypeError(`the API key ${notAToken}`);
    return () => source;
  }
  if (typeof source !== "function") return tokenFileReader(source.tokenFile);
  return async () => {
    const token = await source();
    if (token === undefined || isToken(token)) return token;
    throw cannotSend(`what the function gave as API key ${notAToken}`);
  };
}

/** A file that was written within this time may be written again without a new time: some file systems' clocks tick every 2 s. */
const settledMs = 2000;

function tokenFileReader(path: string): ReadToken {
  // An import would be in the way of bundles for browsers.
  const fs = globalThis.process?.getBuiltinModule?.("node:fs")?.promises;
  if (fs === undefined) {
    throw new TypeError("a token file can only be read in Node: give the token itself, or a function");
  }
  let last: { token: string; version: string | undefined } | undefined;

  async function read(): Promise<string> {
    const { ino, size, ctimeNs, ctimeMs } = await fs!.stat(path, { bigint: true });
    const version = [ino, size, ctimeNs].join();
    if (last?.version === version) return last.token;
    const token = (await fs!.readFile(path, "utf8")).trim();
    if (token === "" && last !== undefined) return last.token;
    if (!isToken(token)) throw cannotSend(`what is in the token file ${path} ${notAToken}`);
    const settled = Date.now() - Number(ctimeMs) > settledMs;
    last = { token, version: settled ? version : undefined };
    return token;
  }

  return () =>
    read().catch((error: unknown) => {
      if (error instanceof ConnectError) throw error;
      if (last !== undefined) return last.token;
      const { code = "unknown error" } = error as { code?: string };
      throw cannotSend(`the token file ${path} cannot be read (${code})`);
    });
}

const notAToken = "is none: a token is visible ASCII characters without spaces";

/** Checked here: what a header does not take, it quotes in its error. */
function isToken(value: unknown): value is string {
  return typeof value === "string" && /^[\x21-\x7e]+$/.test(value);
}

function cannotSend(message: string): ConnectError {
  return new ConnectError(message, Code.FailedPrecondition);
}

function hostOf(url: string): string {
  return parse(url).host;
}

/** In a page, a URL may be relative to its own. */
function parse(url: string): URL {
  const { location } = globalThis as { location?: { href: string } };
  return new URL(url, location?.href);
}

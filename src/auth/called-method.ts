/** Which method a request to another server calls, from what its proxy tells of it. */
import { Code, ConnectError } from "@connectrpc/connect";
import { type MethodName, noMethod, parseMethodName } from "./method-name.ts";
import type { Verdict } from "./verdict.ts";

/** A request as its proxy tells of it. */
export interface ProxiedRequest {
  /** As it stands in the request line: path and query, not decoded. */
  readonly target: string;
  /** The HTTP method, e.g. "POST". */
  readonly verb: string;
  /** What the proxy's configuration, never the request, names the service and the method; "": nothing. */
  readonly namedService: string;
  readonly namedMethod: string;
}

/** "bad_name": the configuration's names are none. "ambiguous": proxy, server and we might take it for different methods. */
export type CalledMethod = MethodName | "bad_name" | "ambiguous";

/**
 * The method that a request calls.
 *
 * Where the proxy names the service, it is that service, and the method that the
 * proxy names or else the HTTP method: `billing/GET`. Else the path of an RPC names
 * it, `/package.Service/Method`, exactly as it stands; any other path names none.
 */
export function calledMethod(request: ProxiedRequest): CalledMethod {
  const { namedService, namedMethod } = request;
  if (namedService === "") {
    return namedMethod === "" ? methodOfPath(request.target) : "bad_name";
  }
  if (parseMethodName(`${namedService}/${namedMethod || "GET"}`) === undefined) return "bad_name";
  return parseMethodName(`${namedService}/${namedMethod || request.verb}`) ?? "ambiguous";
}

function methodOfPath(target: string): MethodName | "ambiguous" {
  const [path = ""] = target.split(/[?#]/, 1);
  if (!path.startsWith("/")) return "ambiguous";
  const named = parseMethodName(path);
  if (named !== undefined) return named;
  // A server behind may be more lenient than we are, and find a method here whose policy we would not have applied.
  const segments = plainSegments(path);
  return segments.includes("..") || parseMethodName(segments.join("/")) !== undefined
    ? "ambiguous"
    : noMethod;
}

/**
 * What the most lenient server might find in a path. Where `..` leads is not
 * followed: servers disagree on whether an empty segment is one.
 */
function plainSegments(path: string): string[] {
  let text = path;
  // More rounds could only help a server that decodes as often.
  for (let round = 0; round < 3; round++) {
    text = text.replace(/%([0-9a-f]{2})/gi, (_, hex: string) =>
      String.fromCharCode(Number.parseInt(hex, 16)),
    );
  }
  const [plain = ""] = text.replaceAll("\\", "/").split(/[?#\0]/, 1);
  return plain
    .split("/")
    .map((segment) => segment.replace(/;.*$/s, "").trim())
    .filter((segment) => segment !== "" && segment !== ".");
}

/** What refuses a request that is ambiguous. */
export function ambiguous(): ConnectError {
  return new ConnectError(
    "what this request calls could be read in more than one way: send its path as it is declared",
    Code.PermissionDenied,
  );
}

/** More than a company's services have. */
const mostNames = 10_000;

/**
 * Creates what says under which name a call of another server is logged and
 * counted. Whoever calls through a proxy chooses the path, and each name is rows
 * of statistics that are kept for a year: only callers with a good key introduce
 * any, all together so many and a user a quarter of that. A call whose name is not
 * taken is logged without one.
 */
export function createNameLedger(
  isKnown: (method: MethodName) => boolean,
  most: number = mostNames,
): (method: MethodName, verdict: Verdict) => MethodName {
  const names = new Set<string>();
  const byUser = new Map<bigint, number>();

  return (method, verdict) => {
    const name = `${method.service}/${method.name}`;
    if (names.has(name) || isKnown(method)) return method;
    const { principal } = verdict;
    if (principal === undefined || names.size >= most) return noMethod;
    const ofUser = byUser.get(principal.userId) ?? 0;
    if (ofUser >= most / 4) return noMethod;
    byUser.set(principal.userId, ofUser + 1);
    names.add(name);
    return method;
  };
}

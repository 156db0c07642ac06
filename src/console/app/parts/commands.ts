/** A call as one types it into a shell or an editor. */

export interface Call {
  /** E.g. "api.users.UserService". */
  readonly service: string;
  readonly method: string;
  /** The message in protobuf's JSON form. */
  readonly json: string;
  /** The header that carries the token. */
  readonly header: string;
  /** A token, or what stands for one, such as "$TOKEN". */
  readonly token: string;
  /** Other headers. */
  readonly headers?: readonly (readonly [name: string, value: string])[];
}

/** Quoted for a POSIX shell. */
const quoted = (text: string) => `'${text.replaceAll("'", "'\\''")}'`;

/** A header for -H. The token may be the variable $TOKEN, which stays one. */
function headerArgument([name, value]: readonly [name: string, value: string]): string {
  return value === "$TOKEN" ? `-H "${name}: $TOKEN"` : `-H ${quoted(`${name}: ${value}`)}`;
}

const headersOf = ({ header, token, headers = [] }: Call) =>
  [[header, token] as const, ...headers].filter(([, value]) => value !== "");

/** Connect JSON, for unary methods. */
export function curlCommand(call: Call): string {
  return [
    "curl",
    ...headersOf(call).map(headerArgument),
    "-H 'content-type: application/json'",
    `-d ${quoted(call.json)}`,
    `${window.location.origin}/${call.service}/${call.method}`,
  ].join(" \\\n  ");
}

/** gRPC. */
export function grpcurlCommand(call: Call): string {
  const { host, hostname, port, protocol } = window.location;
  const secure = protocol === "https:";
  const target = port === "" ? `${hostname}:${secure ? 443 : 80}` : host;
  return [
    secure ? "grpcurl" : "grpcurl -plaintext",
    ...headersOf(call).map(headerArgument),
    `-d ${quoted(call.json)}`,
    target,
    `${call.service}/${call.method}`,
  ].join(" \\\n  ");
}

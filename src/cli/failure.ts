/** How a command fails: what it says, and the exit status by which a script knows. */
import { Code, type ConnectError } from "@connectrpc/connect";
import { codeName } from "../rpc/code-name.ts";

/** Exit status by outcome; `latchkey --help` and README list them. */
export const exitCodes = {
  failed: 1,
  usage: 2,
  unauthenticated: 3,
  permissionDenied: 4,
  notFound: 5,
  unavailable: 6,
} as const;

/** A failure whose message is for people. */
export class Failure extends Error {
  override name = "Failure";
  readonly exitCode: number;

  constructor(message: string, exitCode: number = exitCodes.failed) {
    super(message);
    this.exitCode = exitCode;
  }
}

const byCode: Partial<Record<Code, number>> = {
  [Code.InvalidArgument]: exitCodes.usage,
  [Code.OutOfRange]: exitCodes.usage,
  [Code.Unauthenticated]: exitCodes.unauthenticated,
  [Code.PermissionDenied]: exitCodes.permissionDenied,
  [Code.NotFound]: exitCodes.notFound,
  [Code.Unavailable]: exitCodes.unavailable,
  [Code.DeadlineExceeded]: exitCodes.unavailable,
  [Code.ResourceExhausted]: exitCodes.unavailable,
};

/** The exit status that tells of a code. */
export function exitCodeOf(code: Code): number {
  return byCode[code] ?? exitCodes.failed;
}

/** What a call to a server failed with, and what to do about it. */
export function describeCallFailure(error: ConnectError, server: string): Failure {
  const network = networkCode(error.cause);
  if (network === undefined) return new Failure(messageOf(error, server), exitCodeOf(error.code));
  const message = /CERT|SELF_SIGNED|ISSUER/.test(network)
    ? `the certificate of ${server} is not trusted (${network}): --ca-file names those that are to be`
    : `${server} does not answer (${network}): is the server running there? latchkey serve starts one, --server names another`;
  return new Failure(message, exitCodes.unavailable);
}

function messageOf({ code, rawMessage }: ConnectError, server: string): string {
  switch (code) {
    case Code.Unauthenticated:
      return `${rawMessage} (${server}). latchkey login takes another token, --token-file reads one`;
    case Code.DeadlineExceeded:
      return `${server} did not answer in time (${rawMessage}): try again, or give it more with --timeout`;
    case Code.Unimplemented:
      return `${server} does not have this method: is it a Latchkey server, and not older than this command? (${rawMessage})`;
    case Code.Internal:
    case Code.Unknown:
    case Code.DataLoss:
      return `${server}: ${codeName(code)}: ${rawMessage}`;
    default:
      return rawMessage;
  }
}

/** The code of an error of the network, however deep it is wrapped, e.g. ECONNREFUSED. */
function networkCode(error: unknown): string | undefined {
  for (let e = error; e instanceof Error; e = e.cause) {
    const { code } = e as NodeJS.ErrnoException;
    if (typeof code === "string" && /^(E[A-Z]+|[A-Z]+_[A-Z_]+)$/.test(code)) return code;
  }
  return undefined;
}

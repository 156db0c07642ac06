/** The server's own log: what an operator reads, without what must not be there. */
import { type Logger, type LoggerOptions, pino } from "pino";
import { createRedactor } from "./auth/token.ts";

export interface LogOptions {
  level: string;
  tokenPrefix: string;
  secretKey: string | undefined;
  /** Where the lines go; default: standard error. */
  stream?: { write(line: string): void };
}

/**
 * Options for Fastify's logger. Lines are JSON; tokens and the secret key are blotted
 * out of them, whoever wrote them.
 */
export function loggerOptions(
  options: LogOptions,
): LoggerOptions & { stream: { write(line: string): void } } {
  const redactTokens = createRedactor(options.tokenPrefix);
  // As it stands in a line: JSON writes some characters otherwise.
  const secretKey = JSON.stringify(options.secretKey)?.slice(1, -1);
  const redact = (line: string) => {
    const blotted = redactTokens(line);
    return secretKey === undefined ? blotted : blotted.replaceAll(secretKey, "[redacted]");
  };
  const stream = options.stream ?? process.stderr;
  return {
    level: options.level,
    base: { pid: process.pid },
    serializers: { err: (error: unknown) => describeError(error) as never },
    stream: { write: (line) => void stream.write(redact(line)) },
  };
}

/** The same log for a process that serves nothing itself. */
export function createLog(options: LogOptions): Logger {
  const { stream, ...rest } = loggerOptions(options);
  return pino(rest, stream);
}

interface ErrorDescription {
  type: string;
  message: string;
  code?: string;
  stack?: string;
  cause?: ErrorDescription;
}

/**
 * An error for the log. Only its type, message, code, stack and causes are taken:
 * what libraries hang on besides, such as a statement's parameters, may hold what
 * must not be logged.
 */
export function describeError(error: unknown, depth = 0): ErrorDescription {
  if (!(error instanceof Error)) return { type: typeof error, message: describeThrown(error) };
  // Drizzle's message ends with the parameters, hashes among them; its cause has Postgres' own.
  const hasParameters = "params" in error && "query" in error;
  const description: ErrorDescription = {
    type: error.name,
    message: hasParameters ? "a statement failed" : error.message,
  };
  const code = (error as { code?: unknown }).code;
  if (typeof code === "string" || typeof code === "number") description.code = String(code);
  // A stack begins with the message, which may hold lines that look like frames: a parameter's, for one.
  const frames = error.stack
    ?.replace(error.message, () => "")
    .match(/^\s+at .*$/gm)
    ?.join("\n");
  if (frames !== undefined) description.stack = frames;
  if (error.cause !== undefined && depth < 5) description.cause = describeError(error.cause, depth + 1);
  return description;
}

/** What was thrown that is no error. Of an object no more than that: it may hold anything. */
function describeThrown(thrown: unknown): string {
  return typeof thrown === "object" && thrown !== null
    ? Object.prototype.toString.call(thrown)
    : String(thrown);
}

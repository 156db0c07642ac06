/**
 * The load: h2load, of nghttp2. It sends a fixed number of requests, not for a fixed time, which
 * would cut off at its end what a server still counts: so that what was answered can be held
 * against what was counted, to the last call.
 */
import { spawn } from "node:child_process";
import { readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { echoPath, messageOf, type Protocol } from "./echo.ts";
import { quantile } from "./statistics.ts";

export interface Load {
  readonly protocol: Protocol;
  /** E.g. "http://127.0.0.1:12345". */
  readonly url: string;
  readonly token: string;
  readonly connections: number;
  /** Calls at once on each connection. */
  readonly streams: number;
  readonly requests: number;
  /** Calls a second over all connections; undefined: each as soon as there is room for it. */
  readonly perS?: number;
  /** After this long, connections are closed, answered or not. */
  readonly timeoutS: number;
}

export interface LoadResult {
  /** Seconds from the first call to the last answer. */
  readonly seconds: number;
  /** Calls answered ok: with status 200 and the bytes of the answer. */
  readonly ok: number;
  /** Calls that were begun. */
  readonly begun: number;
  /** Calls answered with something else, or not at all. */
  readonly failed: number;
  /** Milliseconds from a call's first byte sent to its last received. */
  readonly p50Ms: number;
  readonly p99Ms: number;
}

/** What h2load prints at its end. */
export interface Summary {
  readonly seconds: number;
  readonly total: number;
  readonly started: number;
  readonly succeeded: number;
  /** Status codes 200 to 299. */
  readonly status2xx: number;
  /** Bytes of bodies. */
  readonly dataBytes: number;
}

/** Runs a load to its end. `directory` holds its files meanwhile. */
export async function runLoad(load: Load, directory: string): Promise<LoadResult> {
  const body = join(directory, "request");
  const log = join(directory, "h2load.tsv");
  await writeFile(body, messageOf[load.protocol]);
  await rm(log, { force: true });
  const { stdout, code } = await run("h2load", argumentsOf(load, body, log));
  if (code !== 0) throw new Error(`h2load ended with ${code}:\n${stdout}`);
  const summary = parseSummary(stdout);
  const { latenciesMs, seconds } = parseLog(await readFile(log, "utf8"));
  await rm(log);
  const ok = answeredOk(summary, messageOf[load.protocol].length);
  return {
    // The log's are exact to the microsecond, but tell nothing of what was waited for in vain.
    seconds: ok === summary.total ? seconds : summary.seconds,
    ok,
    begun: summary.started,
    failed: summary.total - ok,
    p50Ms: quantile(latenciesMs, 0.5),
    p99Ms: quantile(latenciesMs, 0.99),
  };
}

/** The command line of a load. */
export function argumentsOf(load: Load, body: string, log: string): string[] {
  const headers =
    load.protocol === "grpc"
      ? ["content-type: application/grpc", "te: trailers"]
      : ["content-type: application/json", "connect-protocol-version: 1"];
  return [
    ...["-n", String(load.requests), "-c", String(load.connections), "-m", String(load.streams)],
    ...["-T", String(load.timeoutS), "-d", body, "--log-file", log],
    ...(load.protocol === "json" ? ["--h1"] : []),
    ...(load.perS === undefined ? [] : ["--rps", String(load.perS / load.connections)]),
    ...[...headers, `x-api-key: ${load.token}`].flatMap((header) => ["-H", header]),
    load.url + echoPath,
  ];
}

/** Reads what h2load printed. Throws where that is something else. */
export function parseSummary(stdout: string): Summary {
  const find = (pattern: RegExp) => {
    const match = stdout.match(pattern);
    if (match === null) throw new Error(`h2load printed no ${pattern}:\n${stdout}`);
    return match.slice(1);
  };
  const [time = "", unit = ""] = find(/^finished in ([\d.]+)(us|ms|s|m)\b/m);
  const unitS: Record<string, number> = { us: 1e-6, ms: 1e-3, s: 1, m: 60 };
  const [total, started, succeeded] = find(
    /^requests: (\d+) total, (\d+) started, \d+ done, (\d+) succeeded/m,
  ).map(Number) as [number, number, number];
  const [status2xx] = find(/^status codes: (\d+) 2xx/m).map(Number) as [number];
  const [dataBytes] = find(/^traffic: .* \((\d+)\) data$/m).map(Number) as [number];
  const seconds = Number(time) * (unitS[unit] ?? Number.NaN);
  return { seconds, total, started, succeeded, status2xx, dataBytes };
}

/**
 * How many were answered ok. h2load knows of status codes alone, and gRPC's errors come with 200:
 * but without a message, so that the bytes of all bodies tell how many there are.
 */
export function answeredOk(summary: Summary, answerBytes: number): number {
  return Math.min(summary.status2xx, summary.succeeded, Math.floor(summary.dataBytes / answerBytes));
}

/**
 * Reads h2load's log, a line for each call: start in microseconds since 1970, status, microseconds
 * until the end of the answer. Returns the latencies of those that were answered, and the seconds
 * from the first start to the last end.
 */
export function parseLog(text: string): { latenciesMs: Float64Array; seconds: number } {
  const lines = text.split("\n");
  const latenciesMs = new Float64Array(lines.length);
  let n = 0;
  let beganUs = Number.POSITIVE_INFINITY;
  let endedUs = 0;
  for (const line of lines) {
    const [startUs, status, us] = line.split("\t");
    if (us === undefined || status === "-1") continue;
    latenciesMs[n++] = Number(us) / 1000;
    beganUs = Math.min(beganUs, Number(startUs));
    endedUs = Math.max(endedUs, Number(startUs) + Number(us));
  }
  return { latenciesMs: latenciesMs.subarray(0, n), seconds: n === 0 ? 0 : (endedUs - beganUs) / 1e6 };
}

function run(command: string, args: string[]): Promise<{ stdout: string; code: number | null }> {
  const child = spawn(command, args, { stdio: ["ignore", "pipe", "pipe"] });
  let stdout = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding("utf8").on("data", (text: string) => {
      stdout += text;
    });
  }
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code) => resolve({ stdout, code }));
  });
}

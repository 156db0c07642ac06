/**
 * The load of gRPC: h2load, of nghttp2. It sends a fixed number of requests, not for a fixed time,
 * which would cut off at its end what a server still counts: so that what was answered can be held
 * against what was counted, to the last call.
 */
import { readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { echoPath, grpcFrame } from "./echo.ts";
import { type LoadResult, runTool, type Target } from "./load.ts";
import { quantile } from "./statistics.ts";

/** A closed loop: each call as soon as there is room for it. */
export interface Load {
  readonly connections: number;
  /** Calls at once on each connection. */
  readonly streams: number;
  readonly requests: number;
  /** After this long, connections are closed, answered or not. */
  readonly timeoutS: number;
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
export function runLoad(target: Target, load: Load, directory: string): Promise<LoadResult> {
  const { connections, streams, requests, timeoutS } = load;
  return run(target, directory, [
    ...["-n", String(requests), "-c", String(connections), "-m", String(streams)],
    ...["-T", String(timeoutS), target.url + echoPath],
  ]);
}

/** An open loop: calls at their times, whether or not those before are answered. */
export interface PacedLoad {
  /** Of each connection, a millisecond later than of the one before. */
  readonly schedule: Schedule;
  readonly connections: number;
  readonly timeoutS: number;
}

/**
 * Runs an open loop. Latencies count from when a call is sent: what the load itself was late with is none
 * of the server's. How many calls a second it came to is for the caller to look at: of each connection,
 * h2load sends one call a millisecond at most.
 *
 * Its own --rps would send what is due within 10 ms at once, on all connections together.
 */
export async function runPaced(
  target: Target,
  { schedule, connections, timeoutS }: PacedLoad,
  directory: string,
): Promise<LoadResult> {
  const file = join(directory, "schedule");
  const lines = Array.from(schedule, (atMs) => `${atMs.toFixed(3)}\t${target.url}${echoPath}\n`);
  await writeFile(file, lines.join(""));
  return run(target, directory, [
    ...[`--timing-script-file=${file}`, "-c", String(connections), "-m", "1000"],
    ...["-r", "1", "--rate-period", "1ms", "-T", String(timeoutS)],
  ]);
}

/** Times of calls in milliseconds from the start, in their order. */
export type Schedule = Float64Array;

/** Arrivals that know nothing of each other (Poisson), so many a second, for so many seconds. */
export function poisson(perS: number, seconds: number): Schedule {
  const times: number[] = [];
  for (let atMs = 0; ; ) {
    atMs -= Math.log(1 - Math.random()) * (1000 / perS);
    if (atMs > seconds * 1000) return Float64Array.from(times);
    times.push(atMs);
  }
}

async function run(target: Target, directory: string, args: readonly string[]): Promise<LoadResult> {
  const body = join(directory, "request");
  await writeFile(body, grpcFrame);
  const log = join(directory, "h2load.tsv");
  await rm(log, { force: true });
  const { printed, code } = await runTool("h2load", [...argumentsFor(target, body, log), ...args]);
  if (code !== 0) throw new Error(`h2load ended with ${code}:\n${printed}`);
  const text = await readFile(log, "utf8");
  await rm(log);
  const summary = parseSummary(printed);
  const ok = answeredOk(summary, target.answerBytes);
  const failed = summary.total - ok;
  const { latenciesMs, seconds } = parseLog(text);
  return {
    // The log's are exact to the microsecond, but tell nothing of what was waited for in vain.
    seconds: failed === 0 ? seconds : summary.seconds,
    ...{ ok, failed, begun: summary.started },
    p50Ms: quantile(latenciesMs, 0.5),
    p99Ms: quantile(latenciesMs, 0.99),
  };
}

/** What all loads have in common: the same request for all peers. */
export function argumentsFor({ token }: Pick<Target, "token">, body: string, log: string): string[] {
  const headers = ["content-type: application/grpc", "te: trailers", `x-api-key: ${token}`];
  return ["-d", body, "--log-file", log, ...headers.flatMap((header) => ["-H", header])];
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

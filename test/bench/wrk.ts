/**
 * The load of Connect in JSON over HTTP/1.1: wrk, which takes less of the processor for a call than
 * h2load: else it would be the load that can do no more.
 *
 * It runs for a time, and cuts off at its end what is on its way: at most one call on each connection,
 * which a server may count or not. A call that got no answer at all is not told from those.
 *
 * Its latencies are corrected by its own rule: an answer that took longer than two mean ones stands
 * also for those that would have waited meanwhile, had calls come at a steady pace.
 */
import { echoPath, jsonMessage } from "./echo.ts";
import { jsonHeaders } from "./json-call.ts";
import { type LoadResult, runTool, type Target } from "./load.ts";

/** A closed loop: each connection has one call at a time, and the next as soon as that is answered. */
export interface TimedLoad {
  readonly connections: number;
  /** Until the end, which wrk takes up to a tenth of a second to see. */
  readonly seconds: number;
}

/** What `wrk.lua` prints at its end. */
export interface Counted {
  readonly durationUs: number;
  /** With any status. */
  readonly answered: number;
  /** Of all answers, with their headers. */
  readonly bytes: number;
  /** Status codes from 400 on. */
  readonly wrongStatus: number;
  /** Answers that took longer than the longest run. */
  readonly late: number;
  readonly connectErrors: number;
  /** Connections that ended before their answer. */
  readonly readErrors: number;
  readonly writeErrors: number;
  /** 0: there was no answer. */
  readonly p50Us: number;
  readonly p99Us: number;
}

const script = new URL("wrk.lua", import.meta.url).pathname;

/** Runs a load for its time. Rejects with what wrk said where it found nobody to call. */
export async function runTimedLoad(target: Target, load: TimedLoad): Promise<LoadResult> {
  const { printed, code } = await runTool("wrk", argumentsFor(target, load, script), (child) => {
    setTimeout(() => child.kill("SIGINT"), load.seconds * 1000);
  });
  if (code !== 0) throw new Error(`wrk ended with ${code}:\n${printed}`);
  return resultOf(parseCounted(printed), target, load);
}

/** The same for all peers. wrk takes whole seconds alone: it ends by SIGINT, and by itself where it missed that. */
export function argumentsFor(
  { url, token }: Omit<Target, "answerBytes">,
  { connections, seconds }: TimedLoad,
  file: string,
): string[] {
  const longestS = Math.ceil(seconds) + 1;
  return [
    ...["-t", "1", "-c", String(connections), "-d", String(longestS), "--timeout", String(longestS + 1)],
    ...Object.entries(jsonHeaders(token)).flatMap(([name, value]) => ["-H", `${name}: ${value}`]),
    ...["-s", file, url + echoPath, jsonMessage.toString()],
  ];
}

/** Reads what wrk printed. Throws where that is something else. */
export function parseCounted(printed: string): Counted {
  const line = printed.split("\n").find((each) => each.startsWith("{"));
  if (line === undefined) throw new Error(`wrk printed no result:\n${printed}`);
  return JSON.parse(line);
}

/**
 * What became of a load. wrk knows of status codes alone: the bytes of all answers tell how many of
 * them can be right.
 */
export function resultOf(
  counted: Counted,
  { answerBytes }: Pick<Target, "answerBytes">,
  { connections }: Pick<TimedLoad, "connections">,
): LoadResult {
  const { answered, wrongStatus, late, connectErrors, readErrors, writeErrors } = counted;
  const lost = readErrors + writeErrors;
  const ok = Math.max(0, Math.min(answered - wrongStatus - late, Math.floor(counted.bytes / answerBytes)));
  // Where none is ever answered, it is not the end that cut them off.
  const silent = answered + lost + connectErrors === 0 ? connections : 0;
  const latencyMs = (us: number) => (answered === 0 ? Number.NaN : us / 1000);
  return {
    seconds: counted.durationUs / 1e6,
    ...{ ok, begun: answered + lost + connections },
    failed: answered - ok + lost + connectErrors + silent,
    ...{ p50Ms: latencyMs(counted.p50Us), p99Ms: latencyMs(counted.p99Us) },
  };
}

/** The same bytes on a connection to each of two servers that differ in `leanUnary`, and whether what comes of them is the same. */
import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import { isDeepStrictEqual } from "node:util";
import type { Config } from "../../../src/config.ts";
import { type Pair, type Side, startPair } from "../equality/pair.ts";
import { afterwards, type Sighting } from "../equality/sighting.ts";
import { Maker } from "./bytes.ts";
import { Accepted, RawConnection } from "./raw-connection.ts";
import { type Came, read } from "./transcript.ts";

/**
 * What a client does: writes bytes, which the server reads at once; "settle" waits until nothing more happens,
 * a number until that many answers have come, or the connection is closed, and "closed" until it is that, and
 * nothing more happens. A function is called, and waited for, for each of the two.
 */
export type Step = Uint8Array | "settle" | "closed" | number | "end" | "reset" | Act;
export type Act = (connection: RawConnection, side: Side) => unknown;

/** What came of it, each time that the client waited. */
export interface Seen {
  readonly came: readonly Came[];
  readonly isClosed: boolean;
}

export interface Outcome {
  /** At each "settle", and when all is done. */
  readonly seen: readonly Seen[];
  /** What came once the client had ended its side, where nobody had before. */
  readonly afterEnd: Seen | undefined;
  /** What handlers saw of it. */
  readonly sightings: readonly unknown[];
}

export type Steps = (make: Maker) => readonly Step[];
/** By what they are. What is to come of it is told by "200 400 closed": the answers' statuses, and whether it was closed. */
export type Table = Readonly<
  Record<string, readonly [expected: string | undefined, steps: Steps, mayAnswer?: number]>
>;

const quietTicks = 10;
const tickMs = 6;
/** A tick that comes later than that tells of a busy machine, on which as much takes longer. */
const lateMs = 3 * tickMs;
/** As long as they still differ, or are still open, both are waited for. */
const mostTicks = 800;
/** Where so many have differed, the others are not waited for as long: all of a file may. */
const fewDiffer = 5;
const fewTicks = 100;
const atOnce = 80;

export interface CompareOptions {
  /** The client goes before it is answered. */
  readonly isLeft?: boolean;
  /** A body comes in pieces: how many of them have come when it is refused, is chance. */
  readonly inPieces?: boolean;
  /**
   * So many requests that are well-formed have something malformed right behind them, which ends the connection:
   * whether they are answered before that depends on how soon they are. One side may answer more of them than the
   * other, and neither their rows nor what handlers saw is compared. Default 0.
   */
  readonly mayAnswer?: number;
  /** So many answers are waited for in the end. */
  readonly answers?: number;
  /** Those are of another user agent: of the others, rows and what handlers saw are compared all the same. */
  readonly areMarked?: boolean;
}

export class Twins {
  readonly pair: Pair;
  readonly #accepted: ReadonlyMap<Side, Accepted>;
  #differing = 0;

  constructor(pair: Pair) {
    this.pair = pair;
    this.#accepted = new Map(pair.sides.map((side) => [side, new Accepted(side)]));
  }

  get #isHasty(): boolean {
    return this.#differing > fewDiffer;
  }

  open(side: Side): RawConnection {
    return new RawConnection(side.server.port, this.#accepted.get(side) ?? new Accepted(side));
  }

  /** Fails where anything differs; returns what is the same. */
  async compare(what: string, steps: Steps, options: CompareOptions = {}): Promise<Outcome> {
    const { mayAnswer = 0, areMarked = false } = options;
    const isRace = mayAnswer > 0 && !areMarked;
    const agent = this.#agent(what, options);
    const make = new Maker(isRace ? agent.replace("equality", "race") : agent);
    const connections = this.pair.sides.map((side) => this.open(side));
    const seen: Seen[][] = [[], []];
    let isEnded = false;
    try {
      const last: Step = options.answers ?? "settle";
      for (const step of [...steps(make), last]) {
        if (step === "settle" || step === "closed" || typeof step === "number") {
          const answers = typeof step === "number" ? step : 0;
          const now = await settle(connections, {
            mayAnswer,
            answers,
            isLast: step === "closed",
            isHasty: this.#isHasty,
          });
          for (const [i, each] of now.entries()) seen[i]?.push(each);
        } else {
          await Promise.all(
            connections.map((connection, i) => act(step, connection, this.pair.sides[i] as Side)),
          );
          isEnded ||= step === "end" || step === "reset";
        }
      }
      const afterEnd = isEnded ? [] : await this.#end(connections);
      const [lean, stock] = await Promise.all(
        this.pair.sides.map(async (side, i) => ({
          seen: seen[i] ?? [],
          afterEnd: afterEnd[i],
          sightings: isRace ? [] : await sightingsOf(side, make.agent),
        })),
      );
      // Where one of them answered more, the other's is all that they have in common.
      const all = (outcome: Outcome | undefined) => [...(outcome?.seen ?? []), outcome?.afterEnd];
      const others = all(stock);
      const isSameAll = all(lean).every((each, i) => isSame(each, others[i], mayAnswer));
      const { seen: stockSeen, afterEnd: stockAfterEnd } = stock as Outcome;
      const common = isSameAll ? { ...lean, seen: stockSeen, afterEnd: stockAfterEnd } : lean;
      if (!isDeepStrictEqual(common, stock)) this.#differing++;
      assert.deepEqual(common, stock, `the lean path differs from stock: ${what}`);
      return stock as Outcome;
    } finally {
      for (const { socket } of connections) socket.destroy();
    }
  }

  /** Compares all of a table, many at a time; fails with the first that differs, and names the others. */
  async compareAll(group: string, table: Table, options: CompareOptions = {}): Promise<void> {
    const failures: Error[] = [];
    await inParallel(
      Object.entries(table),
      async ([name, [expected, steps, mayAnswer = options.mayAnswer ?? 0]]) => {
        try {
          const began = performance.now();
          const outcome = await this.compare(`${group}: ${name}`, steps, {
            ...options,
            mayAnswer,
            answers: expected?.match(/\d+/g)?.length ?? 0,
          });
          if (process.env.SHOW_OUTCOMES !== undefined) show(group, name, outcome, performance.now() - began);
          if (expected !== undefined) assert.equal(told(outcome), expected, `${group}: ${name}`);
        } catch (error) {
          failures.push(error as Error);
        }
      },
    );
    const [first, ...others] = failures;
    if (first === undefined) return;
    first.message += others.map(({ message }) => `\nand also: ${message.split("\n", 1)[0]}`).join("");
    throw first;
  }

  #agent(what: string, { isLeft = false, inPieces = false }: CompareOptions): string {
    const body = inPieces ? [Buffer.alloc(1), Buffer.alloc(1)] : [];
    const request = { version: "1.1", method: "", path: "", headers: [], body } as const;
    return this.pair.marked(request, what, isLeft).headers[0]?.[1] ?? "";
  }

  async #end(connections: readonly RawConnection[]): Promise<(Seen | undefined)[]> {
    if (connections.every(({ closed }) => closed)) return [];
    for (const { socket } of connections) socket.end();
    return settle(connections, { isLast: true, isHasty: this.#isHasty });
  }
}

async function act(
  step: Uint8Array | "end" | "reset" | Act,
  connection: RawConnection,
  side: Side,
): Promise<void> {
  if (typeof step === "function") await step(connection, side);
  else if (step === "end") connection.socket.end();
  else if (step === "reset") connection.socket.resetAndDestroy();
  else await connection.write(step);
}

interface SettleOptions {
  readonly mayAnswer?: number;
  /** So many answers are waited for. */
  readonly answers?: number;
  /** The client has said all it will say: the server's close is waited for. */
  readonly isLast?: boolean;
  readonly isHasty?: boolean;
}

/**
 * Waits until nothing has happened on either connection for a while, and as long as what has come differs. The
 * servers are in this process: on a busy machine the while is longer.
 */
async function settle(
  connections: readonly RawConnection[],
  { mayAnswer = 0, answers = 0, isLast = false, isHasty = false }: SettleOptions,
): Promise<Seen[]> {
  let before = "";
  let quiet = 0;
  for (let tick = 0; tick < (isHasty ? fewTicks : mostTicks); tick++) {
    const since = performance.now();
    await sleep(tickMs);
    const step = performance.now() - since > lateMs ? 0.3 : 1;
    const now = connections.map(({ activity }) => activity).join(";");
    quiet = now === before ? quiet + step : 0;
    before = now;
    if (quiet < quietTicks) continue;
    const all = connections.map(look);
    if (all.some(({ came, isClosed }) => came.length < answers && !isClosed)) continue;
    if (isLast && !all.every(({ isClosed }) => isClosed)) continue;
    if (isSame(all[0], all[1], mayAnswer)) return all;
  }
  return connections.map(look);
}

function isSame(one: Seen | undefined, other: Seen | undefined, mayAnswer: number): boolean {
  if (isDeepStrictEqual(one, other)) return true;
  if (mayAnswer === 0 || !one?.isClosed || !other?.isClosed) return false;
  const [shorter, longer] =
    one.came.length < other.came.length ? [one.came, other.came] : [other.came, one.came];
  const missing = longer.length - shorter.length;
  if (missing > mayAnswer) return false;
  const before = shorter.length - 1;
  return isDeepStrictEqual(shorter, [...longer.slice(0, before), longer.at(-1)]);
}

function look(connection: RawConnection): Seen {
  return { came: read(connection.received, connection.closed), isClosed: connection.closed };
}

/** Those that were taken off what a side has seen, by the user agent that they are of. */
const taken = new WeakMap<Side, Map<string | null, Sighting[]>>();

/** Calls of one connection may run at once: in the order of what is to be seen of them. */
async function sightingsOf(side: Side, agent: string): Promise<unknown[]> {
  const byAgent = taken.get(side) ?? new Map<string | null, Sighting[]>();
  taken.set(side, byAgent);
  for (const sighting of side.sightings.splice(0)) {
    const own = sighting.context?.requestHeader.get("user-agent") ?? null;
    byAgent.set(own, [...(byAgent.get(own) ?? []), sighting]);
  }
  const all = await Promise.all((byAgent.get(agent) ?? []).map(afterwards));
  byAgent.delete(agent);
  return withoutReason(all).sort((a, b) => (JSON.stringify(a) < JSON.stringify(b) ? -1 : 1));
}

/** Node tells of a client that goes after a request without a body by an error, which Connect passes on. */
function withoutReason(all: readonly unknown[]): unknown[] {
  return JSON.parse(
    JSON.stringify(all).replaceAll(/"(10 aborted|AbortError This operation was aborted)"/g, '"(aborted)"'),
  );
}

/** For whoever writes a table: SHOW_OUTCOMES=1. */
function show(group: string, name: string, outcome: Outcome, ms: number): void {
  const { afterEnd } = outcome;
  const isOpen = afterEnd?.isClosed === false ? "open after all" : "";
  process.stdout.write(`OUTCOME\t${[group, name, told(outcome), Math.round(ms), isOpen].join("\t")}\n`);
}

/** What came of it in short. */
export function told({ seen }: Outcome): string {
  const last = seen.at(-1);
  const statuses = last?.came.map(({ status, end }) =>
    end === "whole" || end === "none" ? status : `${status}(${end})`,
  );
  return [...(statuses ?? []), ...(last?.isClosed ? ["closed"] : [])].join(" ");
}

export async function inParallel<T>(items: readonly T[], run: (item: T) => Promise<void>): Promise<void> {
  const left = [...items];
  const work = async () => {
    for (let next = left.shift(); next !== undefined; next = left.shift()) await run(next);
  };
  await Promise.all(Array.from({ length: atOnce }, work));
}

export async function startTwins(config: Partial<Config> = {}): Promise<Twins> {
  const twins = new Twins(await startPair(config));
  // What is looked up for the first time takes longer than what is known. Whether it differs, the tests say.
  const warm: Steps = (make) => [
    make.post(),
    make.post({ fields: [`X-Api-Key: ${twins.pair.tokens.user}`] }),
  ];
  await twins.compare("warm", warm).catch(() => {});
  return twins;
}

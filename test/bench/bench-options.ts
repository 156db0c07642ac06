/** The command line of the bench. */
import { parseArgs } from "node:util";
import { peers } from "./peers.ts";

export const sections = ["grpc", "json"] as const;
export type Section = (typeof sections)[number];

export interface BenchOptions {
  readonly rounds: number;
  /** Seconds of load for each peer, in each shape and round. */
  readonly seconds: number;
  readonly only: readonly Section[];
  /** Ids; the others are not started. */
  readonly peers: readonly string[];
  /** Where the JSON goes. */
  readonly json: string;
  /** A target that is missed ends the run with 1. */
  readonly strictTargets: boolean;
}

export const help = `Usage: npm run bench -- [OPTIONS]

Measures Latchkey and its peers in rounds that alternate, the server on one processor and the load
and the database on the others. Prints tables of medians and ratios and writes a JSON file.

Options
  --rounds N         rounds that count, default 7
  --seconds N        seconds of load for each peer, shape and round, default 1.5
  --only LIST        sections, separated by commas: ${sections.join(", ")}
  --peers LIST       peers, separated by commas: ${peers.map(({ id }) => id).join(", ")}
  --json FILE        default bench.json
  --strict-targets   end with 1 where a target is missed, not for wrong answers alone

Example: npm run bench -- --rounds 3 --seconds 0.5 --only grpc --peers http2,stock,batched
`;

/** Reads the arguments. Undefined: help was asked for. Throws where one is wrong. */
export function readOptions(args: string[]): BenchOptions | undefined {
  const { values } = parseArgs({
    args,
    options: {
      rounds: { type: "string", default: "7" },
      seconds: { type: "string", default: "1.5" },
      only: { type: "string", default: sections.join(",") },
      peers: { type: "string", default: peers.map(({ id }) => id).join(",") },
      json: { type: "string", default: "bench.json" },
      "strict-targets": { type: "boolean", default: false },
      help: { type: "boolean", default: false, short: "h" },
    },
  });
  if (values.help) return undefined;
  const rounds = Number(values.rounds);
  const seconds = Number(values.seconds);
  if (!Number.isInteger(rounds) || rounds < 1) throw new Error("--rounds takes a number from 1");
  if (!(seconds >= 0.1 && seconds <= 60)) throw new Error("--seconds takes a number from 0.1 to 60");
  return {
    ...{ rounds, seconds, json: values.json, strictTargets: values["strict-targets"] },
    only: listOf("--only", values.only, sections),
    peers: listOf(
      "--peers",
      values.peers,
      peers.map(({ id }) => id),
    ),
  };
}

function listOf<T extends string>(option: string, value: string, known: readonly T[]): T[] {
  const names = value.split(",");
  for (const name of names) {
    if (!known.includes(name as T)) {
      throw new Error(`${option}: there is no ${name || "empty name"}; there are ${known.join(", ")}`);
    }
  }
  return names as T[];
}

/** The targets, and whether they are met. */
import { committed } from "./commit-time.ts";
import type { Protocol } from "./echo.ts";
import { which as ingested } from "./ingest.ts";
import type { Results, Which } from "./results.ts";
import { shapes } from "./shapes.ts";
import { figure, table } from "./table.ts";
import { fewKeys, variantOf } from "./verdict-rounds.ts";

export interface Target {
  readonly what: string;
  /** At least, or at most, this. */
  readonly bound: number;
  readonly direction: "at least" | "at most";
  /** NaN: not measured. */
  readonly measured: number;
}

/** Undefined: it was not measured. */
export function isMet({ measured, bound, direction }: Target): boolean | undefined {
  if (Number.isNaN(measured)) return undefined;
  return direction === "at least" ? measured >= bound : measured <= bound;
}

/** `keys`: the most for which verdicts were measured. */
export function findTargets(results: Results, keys: number): Target[] {
  const atLeast = (what: string, bound: number, measured: number): Target => ({
    ...{ what, bound, measured, direction: "at least" },
  });
  const atMost = (what: string, bound: number, measured: number): Target => ({
    ...{ what, bound, measured, direction: "at most" },
  });
  const load = (section: string, subject: string, variant: string, value = "perS"): Which => ({
    ...{ section, subject, variant, value },
  });
  const verdicts = (subject: string, size: number): Which => ({
    ...{ section: "verdicts", subject, variant: variantOf(size), value: "perS" },
  });

  /** Against each of its peers, in all shapes that those hold. */
  function against(protocol: Protocol, bounds: Readonly<Record<string, number>>): Target[] {
    return Object.entries(bounds).flatMap(([peer, bound]) =>
      shapes[protocol]
        .filter(({ flood }) => !flood)
        .map(({ id }) =>
          atLeast(
            `${protocol}, ${id}: batched × ${peer}`,
            bound,
            results.ratio(load(protocol, "batched", id), load(protocol, peer, id)),
          ),
        ),
    );
  }

  const [flood, ...others] = shapes.grpc.toSorted((a, b) => Number(b.flood ?? 0) - Number(a.flood ?? 0));
  const rates = others.map(({ id }) => results.median(load("grpc", "batched", id)));
  const best = Math.max(...rates.filter(Number.isFinite));
  const answered = results.median(load("grpc", "batched", flood?.id ?? ""));
  const commitMs = results.median({ ...committed, value: "p50Ms" });
  const at100 = (id: string, value?: string) => load("grpc", id, "10 x 10", value);
  const tail = (id: string): Which => ({ section: "p99", subject: id, variant: "half", value: "p99Ms" });

  return [
    ...against("grpc", { stock: 6, "grpc-js": 1.2, http2: 0.7 }),
    atLeast(`grpc, ${flood?.id}: batched × its best`, 0.6, answered / best),
    ...against("json", { stock: 4, fastify: 1, http: 0.65 }),
    ...against("grpc", { off: 0.9 }),
    ...against("json", { off: 0.9 }),
    atMost(
      "grpc, half of saturation: p99 of batched × off",
      1.05,
      results.ratio(tail("batched"), tail("off")),
    ),
    atLeast("grpc, 10 x 10: strict × batched", 0.5, results.ratio(at100("strict"), at100("batched"))),
    atMost(
      "grpc, 10 x 10: p50 of strict, ms, against 2 × commit + p50 of off",
      2 * commitMs + results.median(at100("off", "p50Ms")),
      results.median(at100("strict", "p50Ms")),
    ),
    atLeast(
      "verdicts × better-auth",
      100,
      results.ratio(verdicts("latchkey", fewKeys), verdicts("better-auth", fewKeys)),
    ),
    atLeast(
      "verdicts × SELECT + UPDATE + INSERT",
      50,
      results.ratio(verdicts("latchkey", fewKeys), verdicts("sql", fewKeys)),
    ),
    atMost(
      `a verdict's cost with ${keys.toLocaleString("en")} keys × that with ${fewKeys.toLocaleString("en")}`,
      1.2,
      keys > fewKeys ? results.ratio(verdicts("latchkey", fewKeys), verdicts("latchkey", keys)) : Number.NaN,
    ),
    atLeast("log rows/s", 30_000, results.median(ingested)),
  ];
}

const marks = new Map([
  [true, "met"],
  [false, "MISSED"],
  [undefined, "not measured"],
]);

export function targetTable(targets: readonly Target[]): string {
  return table(
    ["target", "", "bound", "measured", ""],
    targets.map((target) => [
      target.what,
      target.direction,
      figure(target.bound),
      figure(target.measured),
      marks.get(isMet(target)) ?? "",
    ]),
  );
}

/** Verdicts a second in process: of Latchkey with few and many keys, and of its peers. */
import { join } from "node:path";
import { createKeys } from "./bench-keys.ts";
import type { SectionContext } from "./load-rounds.ts";
import { measureSubjects, type SubjectEntry } from "./subject-process.ts";
import { figure, table } from "./table.ts";

export const section = "verdicts";
export const fewKeys = 1000;
const someKeys = 100_000;
/** Where not all keys have room in memory. */
const boundedEntries = 10_000;

export async function measureVerdicts(context: SectionContext): Promise<string> {
  const { surroundings, results, say } = context;
  const tokensFile = join(surroundings.directory, "tokens");
  say(`verdicts: making ${figure(context.keys)} keys`);
  const databaseUrl = await surroundings.createDatabase();
  await createKeys(databaseUrl, context.keys, tokensFile);

  const latchkey = (id: string, keys: number, options: object): SubjectEntry => ({
    ...{ id, variant: variantOf(keys), module: "latchkey-verdicts", databaseUrl, tokensFile },
    options: { keys, cacheMaxEntries: keys, draws: "uniform", ...options },
  });
  const bounded = Math.min(boundedEntries, Math.ceil(context.keys / 10));
  const entries = [
    ...sizesOf(context).map((keys) => latchkey("latchkey", keys, {})),
    ...(["zipf", "uniform"] as const).map((draws) =>
      latchkey(`bounded-${draws}`, Math.min(someKeys, context.keys), { cacheMaxEntries: bounded, draws }),
    ),
    latchkey("recorded", fewKeys, { recorded: true }),
  ];
  for (const id of Object.keys(peers)) {
    const own = await surroundings.createDatabase();
    entries.push({
      ...{ id, variant: variantOf(fewKeys), module: `${id}-verdicts`, databaseUrl: own },
      options: { keys: fewKeys },
    });
  }
  await measureSubjects({ ...context, section, entries, places: surroundings.places });

  const reference = { section, subject: "latchkey", variant: variantOf(fewKeys), value: "perS" };
  return table(
    ["verdicts in process", "verdicts/s", "µs each", "× its cost at 1,000", "in memory, %", "bytes a key"],
    entries.map(({ id, variant }) => {
      const which = (value: string) => ({ section, subject: id, variant, value });
      return [
        `${names[id] ?? peers[id]}, ${variant}`,
        figure(results.median(which("perS"))),
        figure(1e6 / results.median(which("perS"))),
        figure(results.ratio(reference, which("perS"))),
        id in peers ? "–" : figure(100 * results.median(which("atOnce"))),
        figure(results.median(which("bytesPerKey"))),
      ];
    }),
  );
}

const names: Readonly<Record<string, string>> = {
  latchkey: "Latchkey",
  "bounded-zipf": "Latchkey, room for a tenth of the keys, drawn by Zipf's law",
  "bounded-uniform": "Latchkey, room for a tenth of the keys, drawn alike",
  recorded: "Latchkey, each counted and logged",
};
const peers: Readonly<Record<string, string>> = {
  sql: "SELECT + UPDATE + INSERT",
  "better-auth": "better-auth's API keys",
};

/** The numbers of keys: those asked for at most. */
export function sizesOf({ keys }: Pick<SectionContext, "keys">): number[] {
  return [fewKeys, someKeys, keys].filter((size, i, all) => size <= keys && all.indexOf(size) === i);
}

export function variantOf(keys: number): string {
  return `${keys.toLocaleString("en")} keys`;
}

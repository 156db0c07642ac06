/** Rows of the request log a second, with counters and rollups. */
import { join } from "node:path";
import { createKeys } from "./bench-keys.ts";
import type { SectionContext } from "./load-rounds.ts";
import { measureSubjects, type SubjectEntry } from "./subject-process.ts";
import { figure, table } from "./table.ts";

export const which = { section: "ingest", subject: "latchkey", variant: "1,000 keys", value: "perS" };
const packed = { ...which, subject: "packed" };
/** Batches and their commits are of many rows: a round of few batches would say little. */
const longer = 3;

export async function measureIngest(context: SectionContext): Promise<string> {
  const { surroundings, results } = context;
  const entries: SubjectEntry[] = [];
  for (const { subject, variant } of [which, packed]) {
    // What they wrote is counted in the end.
    const databaseUrl = await surroundings.createDatabase();
    await createKeys(databaseUrl, 1000, join(surroundings.directory, "tokens"));
    const options = { packs: subject === packed.subject };
    entries.push({ id: subject, variant, module: "latchkey-ingest", databaseUrl, options });
  }
  await measureSubjects({
    ...context,
    ...{ section: which.section, seconds: context.seconds * longer, places: surroundings.places, entries },
  });
  const value = (value: string) => figure(results.median({ ...packed, value }));
  return table(
    ["log rows, with counters and rollups", "rows/s"],
    [
      [which.variant, figure(results.median(which))],
      [`${which.variant}, packed`, value("perS")],
      ["… and then laid out", value("laidOutPerS")],
    ],
  );
}

/** Rows of the request log a second, with counters and rollups. */
import { join } from "node:path";
import { createKeys } from "./bench-keys.ts";
import type { SectionContext } from "./load-rounds.ts";
import { measureSubjects } from "./subject-process.ts";
import { figure, table } from "./table.ts";

export const which = { section: "ingest", subject: "latchkey", variant: "1,000 keys", value: "perS" };
/** Batches and their commits are of many rows: a round of few batches would say little. */
const longer = 3;

export async function measureIngest(context: SectionContext): Promise<string> {
  const { surroundings, results } = context;
  const databaseUrl = await surroundings.createDatabase();
  await createKeys(databaseUrl, 1000, join(surroundings.directory, "tokens"));
  await measureSubjects({
    ...context,
    ...{ section: which.section, seconds: context.seconds * longer, places: surroundings.places },
    entries: [
      { id: which.subject, variant: which.variant, module: "latchkey-ingest", databaseUrl, options: {} },
    ],
  });
  return table(
    ["log rows, with counters and rollups", "rows/s"],
    [[which.variant, figure(results.median(which))]],
  );
}

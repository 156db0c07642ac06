/** Starts subjects, each in a process of its own on the server's processor, and measures them in rounds that alternate. */
import { type Child, closeChildren, startChild } from "./child.ts";
import type { Places } from "./machine.ts";
import type { Results } from "./results.ts";
import type { SubjectJob } from "./subjects/subject.ts";

export interface SubjectEntry extends SubjectJob {
  readonly id: string;
  /** Under which circumstances. */
  readonly variant: string;
  /** The file in subjects/. */
  readonly module: string;
}

export interface SubjectRounds {
  readonly section: string;
  readonly entries: readonly SubjectEntry[];
  readonly rounds: number;
  readonly seconds: number;
  readonly places: Places;
  readonly results: Results;
  readonly say: (line: string) => void;
}

/** A heap for a million keys. */
const nodeArgs = ["--max-old-space-size=8192"];

/** Measures. Rejects where a subject does not do what it says; in the end none runs. */
export async function measureSubjects(options: SubjectRounds): Promise<void> {
  const { section, results, rounds, seconds } = options;
  const started: { entry: SubjectEntry; child: Child }[] = [];
  try {
    for (const entry of options.entries) {
      const { id, variant, ...job } = entry;
      const child = startChild({
        ...{ name: `${id} (${variant})`, script: "subjects/run.ts", places: options.places, nodeArgs },
      });
      started.push({ entry, child });
      const facts = await child.ask<Record<string, number>>("start", job);
      results.add({ section, subject: id, variant, round: 1, values: facts });
    }
    // Round 0 compiles.
    for (let round = 0; round <= rounds; round++) {
      for (const { entry, child } of round % 2 === 0 ? started : started.toReversed()) {
        const values = await child.ask<Record<string, number>>("measure", { seconds });
        if (round > 0) results.add({ section, subject: entry.id, variant: entry.variant, round, values });
      }
      if (round > 0) options.say(`${section}: round ${round} of ${rounds}`);
    }
  } catch (error) {
    await closeChildren(started.map(({ child }) => child)).catch(() => {});
    throw error;
  }
  await closeChildren(started.map(({ child }) => child));
}

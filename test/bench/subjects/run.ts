/** The process of one subject. */
import { answerParent } from "../child-main.ts";
import type { StartSubject, Subject, SubjectJob } from "./subject.ts";

let subject: Subject | undefined;

answerParent({
  async start({ module, ...job }: SubjectJob & { module: string }) {
    const { start } = (await import(`./${module}.ts`)) as { start: StartSubject };
    subject = await start(job);
    return subject.facts ?? {};
  },
  measure: ({ seconds }: { seconds: number }) => subject?.measure(seconds),
  close: () => subject?.close(),
});

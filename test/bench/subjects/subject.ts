/** What is measured in process: something that does as much as it can for a while. */

export interface SubjectJob {
  readonly databaseUrl: string;
  /** A file of tokens, a line each, of keys that the database has; the first `keys` of them are used. */
  readonly tokensFile?: string;
  readonly options: Readonly<Record<string, unknown>>;
}

export interface Subject {
  /** What its start showed. */
  readonly facts?: Readonly<Record<string, number>>;
  /** Works for so many seconds. */
  measure(seconds: number): Promise<Record<string, number>>;
  /** Rejects where what it did and what it says it did differ. */
  close(): Promise<unknown>;
}

/** What the module of a subject exports as `start`. */
export type StartSubject = (job: SubjectJob) => Promise<Subject>;

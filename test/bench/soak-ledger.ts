/** What was asked with each key and how it was answered: what the server's counts are held against. */
import { Code, ConnectError } from "@connectrpc/connect";

interface Entry {
  /** Calls that ended as they should; each is counted once. */
  answered: number;
  /** Calls that may have been counted or not: aborted, or lost with their connection. */
  unsure: number;
}

export interface Ledger {
  /** By id of the API key. */
  readonly entries: ReadonlyMap<string, Entry>;
  /** Calls that ended otherwise than they should, by code and what they were. */
  readonly unexpected: ReadonlyMap<string, number>;
  readonly calls: number;
  readonly running: number;
  /** Milliseconds that good unary calls took since this was asked last. */
  takeLatencies(): number[];
  /** Runs a call and notes how it ends. `apiKeyId`: the key that it counts for, if any. */
  run(call: LedgerCall): Promise<void>;
}

export interface LedgerCall {
  readonly what: string;
  readonly apiKeyId?: string | undefined;
  readonly send: () => Promise<unknown>;
  /** The code that is right; undefined: ok. */
  readonly expect?: Code;
  /** The client gives it up: any end is right, and the key may have been counted or not. */
  readonly aborted?: boolean;
  /** Its time is among the latencies. */
  readonly timed?: boolean;
}

export function createLedger(): Ledger {
  const entries = new Map<string, Entry>();
  const unexpected = new Map<string, number>();
  let latencies: number[] = [];
  let calls = 0;
  let running = 0;

  return {
    entries,
    unexpected,
    get calls() {
      return calls;
    },
    get running() {
      return running;
    },
    takeLatencies() {
      const taken = latencies;
      latencies = [];
      return taken;
    },
    async run({ what, apiKeyId, send, expect, aborted, timed }) {
      calls++;
      running++;
      const began = performance.now();
      const error = await send().then(
        () => undefined,
        (thrown: unknown) => ConnectError.from(thrown),
      );
      running--;
      if (timed && error === undefined) latencies.push(performance.now() - began);
      const right = aborted || error?.code === expect;
      if (!right) {
        const key = `${what}: ${error === undefined ? "ok" : `${Code[error.code]} (${error.rawMessage})`}`;
        unexpected.set(key, (unexpected.get(key) ?? 0) + 1);
      }
      if (apiKeyId === undefined) return;
      const entry = entries.get(apiKeyId) ?? { answered: 0, unsure: 0 };
      entries.set(apiKeyId, entry);
      // A refusal that came too late or not at all was an answer all the same.
      if (aborted || (error !== undefined && !right)) entry.unsure++;
      else entry.answered++;
    },
  };
}

/** Compares the counts of the database with the ledger. Returns what does not agree. */
export function disagreements(ledger: Ledger, counts: ReadonlyMap<string, { count: number; rows: number }>) {
  const found: string[] = [];
  for (const [apiKeyId, { answered, unsure }] of ledger.entries) {
    const { count, rows } = counts.get(apiKeyId) ?? { count: 0, rows: 0 };
    if (count < answered || count > answered + unsure) {
      found.push(`${apiKeyId}: ${count} counted, ${answered} answered, ${unsure} unsure`);
    }
    if (count !== rows) found.push(`${apiKeyId}: ${count} counted, ${rows} rows`);
  }
  return found;
}

/** A recorder as the server has it, fed no faster than it commits, and held against its database at the end. */
import { connect } from "../../../src/db/client.ts";
import { createRecorder, type Recorder } from "../../../src/usage/recorder.ts";
import { createWriter } from "../../usage/batches.ts";
import { readCounted } from "../tally.ts";

/** The recorder would drop rows beyond 100,000. */
const mostPending = 20_000;

export interface Recording {
  readonly recorder: Recorder;
  /** Undefined where there is room for more; else resolves when there is. */
  room(): undefined | Promise<void>;
  /** Resolves when all is committed. */
  drained(): Promise<void>;
  /** Rejects where there are not so many rows and uses. */
  close(recorded: number): Promise<void>;
}

/** `packs`: every batch is packed. */
export function createRecording(databaseUrl: string, packs = false): Recording {
  const client = connect({ url: databaseUrl }, { max: 1, purpose: "usage", statementTimeoutMs: 10_000 });
  let failure: unknown;
  const recorder = createRecorder({
    write: createWriter(client),
    durability: "batched",
    ...(packs && { packs: { mayPack: () => true, packed() {} }, packAbove: 0 }),
    onError(message, error) {
      failure = new Error(message, { cause: error });
    },
  });

  async function below(pending: number): Promise<void> {
    while (recorder.pendingCalls > pending) {
      if (failure !== undefined) throw failure;
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
  }

  return {
    recorder,
    room: () => (recorder.pendingCalls < mostPending ? undefined : below(mostPending / 2)),
    drained: () => below(0),
    async close(recorded) {
      await recorder.close(60_000);
      await client.end();
      const { uses, allRows } = await readCounted(databaseUrl);
      if (uses !== recorded || allRows !== recorded) {
        throw new Error(`recorded ${recorded} calls, counted ${uses} uses and logged ${allRows} rows`);
      }
    },
  };
}

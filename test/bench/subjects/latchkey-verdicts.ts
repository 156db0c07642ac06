/** Latchkey's verdicts in process: the authorizer that its server asks, over the same cache and fence. */
import { readFile } from "node:fs/promises";
import { setImmediate as nextTurn } from "node:timers/promises";
import { Code, ConnectError, type ContextValues, createContextValues } from "@connectrpc/connect";
import { v7 as uuidv7 } from "uuid";
import type { Authorization } from "../../../src/auth/authorizer.ts";
import { beginCall, callKey, endCall } from "../../../src/auth/call.ts";
import { methodName } from "../../../src/auth/method-name.ts";
import { withDefaults } from "../../../src/config.ts";
import { createPools } from "../../../src/db/pools.ts";
import { UserService } from "../../../src/gen/api/users/user_service_pb.js";
import { createVerdicts } from "../../../src/verdicts.ts";
import { heapBytes } from "../child-main.ts";
import { inTurn, uniformDraws, zipfDraws } from "./draws.ts";
import { drive, prepared } from "./drive.ts";
import { createRecording, type Recording } from "./recording.ts";
import type { StartSubject } from "./subject.ts";

/** Verdicts asked for at once, where keys are not in memory. */
const lanes = 64;
/** Look-ups at once while memory is filled: as many as go into the statements that run at once. */
const fillingLanes = 256;
/** A busy machine may be late with some of a million look-ups. */
const fillingTries = 10;
const method = UserService.method.getUser;

interface Options {
  /** Each verdict is counted and logged as a call of its own. */
  readonly recorded?: boolean;
  readonly keys: number;
  readonly cacheMaxEntries: number;
  readonly draws: "uniform" | "zipf";
}

/** Options: see above. Facts: bytes a key in memory, where many have room there. */
export const start: StartSubject = async (job) => {
  const { keys, cacheMaxEntries, draws, recorded } = job.options as unknown as Options;
  const tokens = await readFile(job.tokensFile ?? "");
  const length = tokens.indexOf("\n");
  const tokenOf = (index: number) =>
    tokens.toString("latin1", index * (length + 1), index * (length + 1) + length);
  const address = { url: job.databaseUrl };
  const pools = createPools(
    { address, listenAddress: address, description: "", close: async () => {} },
    false,
  );
  const config = withDefaults({ production: true, databaseUrl: job.databaseUrl, cacheMaxEntries });
  const verdicts = await createVerdicts({
    ...{ pools, config, secretKey: undefined, instanceId: uuidv7(), publicMethods: [], services: {} },
    onError(message, error) {
      throw new Error(message, { cause: error });
    },
  });

  function check({ verdict, error }: Authorization): void {
    if (error !== undefined || verdict.principal === undefined) throw error ?? new Error("nobody was let in");
  }
  function authorize(token: string, values: ContextValues): void | Promise<void> {
    const read = (name: string) => (name === config.apiKeyHeader ? token : undefined);
    const answer = verdicts.authorizer.authorize(method, verdicts.authorizer.read(read), values);
    return answer instanceof Promise ? answer.then(check) : check(answer);
  }
  const ask = (token: string) => authorize(token, createContextValues());

  const recording = recorded ? createRecording(job.databaseUrl) : undefined;
  let calls = 0;
  function askAndRecord({ recorder, room }: Recording, token: string): void | Promise<void> {
    const call = beginCall({
      ...{ method: methodName(method), protocol: "verify", requestId: null, userAgent: null },
    });
    const record = () => {
      recorder.record(endCall(call, { code: 0, errorMessage: undefined, requestBytes: 0, responseBytes: 0 }));
      calls++;
      return room();
    };
    const authorized = authorize(token, createContextValues().set(callKey, call));
    return authorized instanceof Promise ? authorized.then(record) : record();
  }

  async function settled(token: string, asked: Promise<void>): Promise<void> {
    for (let tries = 1, answer: void | Promise<void> = asked; ; tries++) {
      try {
        return await answer;
      } catch (error) {
        if (tries === fillingTries || ConnectError.from(error).code !== Code.Unavailable) throw error;
        answer = ask(token);
      }
    }
  }
  /** Asks for each, and returns how many were not in memory. */
  async function fillOnce(): Promise<number> {
    let absent = 0;
    for (let from = 0; from < keys; from += fillingLanes) {
      const waiting: Promise<void>[] = [];
      for (let n = from; n < Math.min(from + fillingLanes, keys); n++) {
        const answer = ask(tokenOf(n));
        if (answer instanceof Promise) waiting.push(settled(tokenOf(n), answer));
      }
      await Promise.all(waiting);
      absent += waiting.length;
      // So that changes are heard meanwhile.
      await nextTurn();
    }
    return absent;
  }
  /** Until all are there: what is read while nobody can vouch for it, as at the start, does not stay. */
  async function fill(): Promise<void> {
    for (let absent = keys; absent > 0; ) {
      absent = await fillOnce();
      if (cacheMaxEntries < keys) return;
    }
  }
  const bytesBefore = heapBytes();
  await fill();
  const next = inTurn(draws === "zipf" ? zipfDraws(keys) : uniformDraws(keys));
  /** A token comes with its request: it is made just before, and in no memory that was not touched for long. */
  const arrived: string[] = [];
  let taken = 0;
  const source = {
    prepare() {
      for (let n = 0; n < prepared; n++) arrived[n] = tokenOf(next());
      taken = 0;
    },
    ask() {
      const token = arrived[taken++] as string;
      return recording === undefined ? ask(token) : askAndRecord(recording, token);
    },
    ...(recording !== undefined && { drained: recording.drained }),
  };
  return {
    // Of few keys, what a start leaves behind would be most of it.
    facts: keys < 10_000 || cacheMaxEntries < keys ? {} : { bytesPerKey: (heapBytes() - bytesBefore) / keys },
    async measure(seconds) {
      if (cacheMaxEntries < keys) return drive({ ...source, seconds, lanes });
      // Where the machine was too busy to prove that changes are heard, memory was cleared since.
      const some = Array.from({ length: 32 }, () => ask(tokenOf(next())));
      if (some.some((answer) => answer instanceof Promise)) await fill();
      await Promise.all(some);
      return drive({ ...source, seconds, lanes: 1 });
    },
    async close() {
      await recording?.close(calls);
      await verdicts.close();
      await pools.close();
    },
  };
};

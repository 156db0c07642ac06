import { setTimeout as delay } from "node:timers/promises";
import postgres from "postgres";
import { CLUSTER_NAME } from "./cluster.ts";
import { errorCode } from "./error.ts";
import { SOCKET_PORT } from "./socket.ts";

/** Proof that this process, and no other, uses a data directory; it ends with the process, however that dies. */
export interface OwnerLock {
  /** From now on the lock's loss is expected; without this, a lost lock is taken again. */
  expectLoss(): void;
  /** After {@link expectLoss}. */
  close(): Promise<void>;
}

/** `held`: a live process has it. `unanswered`: the server is not (yet, or no longer) there. */
export type LockAttempt =
  | { outcome: "owned"; lock: OwnerLock }
  | { outcome: "held" }
  | { outcome: "unanswered"; code: string };

// The two-number form is a key space of its own: no lock of the application can meet this one.
const LOCK_CLASS = 0x6c61_7463;
const LOCK_OWNER = 1;
const ANSWER_TIMEOUT_MS = 5_000;
const RETAKE_MS = 250;

/**
 * Tries once to take the owner's advisory lock, on a connection that then lives as long as the lock. After a
 * restart of the database it is taken again in the background.
 */
export async function tryOwnerLock(socketDirectory: string): Promise<LockAttempt> {
  let keep = false;
  let retaking = false;
  const sql = postgres({
    host: socketDirectory,
    port: SOCKET_PORT,
    database: CLUSTER_NAME,
    username: CLUSTER_NAME,
    max: 1,
    ssl: false,
    idle_timeout: 0,
    // By default a connection is renewed after 30 to 60 minutes, and the lock would go with it.
    max_lifetime: null,
    backoff: () => RETAKE_MS / 1000,
    prepare: false,
    fetch_types: false,
    connection: { application_name: "latchkey owner", statement_timeout: 0, idle_session_timeout: 0 },
    onnotice: () => undefined,
    onclose: () => {
      if (keep && !retaking) void retake();
    },
  });

  async function tryLock(): Promise<boolean> {
    const [row] = await sql<{ locked: boolean }[]>`
      SELECT pg_try_advisory_lock(${LOCK_CLASS}::int, ${LOCK_OWNER}::int) AS locked`;
    return row?.locked === true;
  }

  async function retake(): Promise<void> {
    retaking = true;
    while (keep) {
      await delay(RETAKE_MS, undefined, { ref: false });
      if (keep && (await tryLock().catch(() => false))) break;
    }
    retaking = false;
  }

  const close = () => sql.end({ timeout: 0 }).catch(() => undefined);
  const abandon = new AbortController();
  try {
    const locked = await Promise.race([tryLock(), answerTimeout(abandon.signal)]);
    if (!locked) {
      await close();
      return { outcome: "held" };
    }
  } catch (error) {
    await close();
    return { outcome: "unanswered", code: errorCode(error) };
  } finally {
    abandon.abort();
  }
  keep = true;
  const expectLoss = () => {
    keep = false;
  };
  return { outcome: "owned", lock: { expectLoss, close } };
}

// postgres.js reconnects without end when a server hangs up before it has said anything.
async function answerTimeout(signal: AbortSignal): Promise<never> {
  await delay(ANSWER_TIMEOUT_MS, undefined, { signal });
  throw new Error("no answer");
}

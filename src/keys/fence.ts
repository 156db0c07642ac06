/**
 * The fence around the cache: hears every change of a key or user, and proves
 * that it hears them.
 *
 * Each change sends NOTIFY in its own transaction (a trigger, see drizzle/). So
 * does a heartbeat, several times per `maxStalenessMs`, to this instance alone,
 * by another connection. Postgres delivers notifications in the order of their
 * commits, so a heartbeat that arrives proves that every change committed before
 * it was sent has arrived too, through whatever lies between: the queue, the
 * network, a pooler. Without such a proof of the last `maxStalenessMs`, nothing
 * that is cached counts.
 */
import type postgres from "postgres";
import type { GrantChange } from "../auth/grant.ts";

const changesChannel = "latchkey_changes";

export interface Fence {
  /** Whether what is cached may be used: every change up to `maxStalenessMs` ago has been heard. */
  isFresh(): boolean;
  /** When the newest heartbeat that came back was sent; on the clock of performance.now(). */
  provenAtMs(): number;
  /** Whether the database answered the newest heartbeat. */
  isDatabaseUp(): boolean;
  /** Calls back for each change heard, and with "all" after a gap. Returns how to stop. */
  onChange(listener: (change: GrantChange) => void): () => void;
  /** Calls back when the database stops or starts to answer. Returns how to stop. */
  onDatabaseUp(listener: (up: boolean) => void): () => void;
  close(): Promise<void>;
}

export interface FenceOptions {
  /** Opens a client of one connection for LISTEN. Called again to replace one that went silent. */
  connectListener: () => postgres.Sql;
  /** Sends heartbeats; a connection of its own, so that a busy pool delays none. Owned by the fence. */
  heartbeat: postgres.Sql;
  /** A UUID. */
  instanceId: string;
  maxStalenessMs: number;
  onError: (message: string, error: unknown) => void;
}

/** Creates the fence and resolves once it listens. Rejects where it cannot. */
export async function createFence(options: FenceOptions): Promise<Fence> {
  const heartbeatChannel = `latchkey_heartbeat_${options.instanceId.replaceAll("-", "")}`;
  const intervalMs = Math.max(20, options.maxStalenessMs / 4);
  const changeListeners = new Set<(change: GrantChange) => void>();
  const upListeners = new Set<(up: boolean) => void>();
  const sentAtMs = new Map<number, number>();
  let beat = 0;
  let provenAtMs = Number.NEGATIVE_INFINITY;
  let databaseUp = true;
  let closed = false;
  let listener: postgres.Sql;
  let listeningSinceMs = 0;
  let replacing = false;

  const isFresh = () => performance.now() - provenAtMs <= options.maxStalenessMs;
  const tell = (change: GrantChange) => {
    for (const listen of changeListeners) listen(change);
  };

  function onHeartbeat(payload: string): void {
    const sent = sentAtMs.get(Number(payload));
    if (sent === undefined) return;
    if (sent > provenAtMs) provenAtMs = sent;
    for (const [n, at] of sentAtMs) if (at <= sent) sentAtMs.delete(n);
  }

  function setDatabaseUp(up: boolean, error?: unknown): void {
    if (up === databaseUp || closed) return;
    databaseUp = up;
    if (!up) options.onError("the database does not answer", error);
    for (const listen of upListeners) listen(up);
  }

  async function listen(): Promise<void> {
    const client = options.connectListener();
    listener = client;
    listeningSinceMs = performance.now();
    const current = () => client === listener && !closed;
    // Heartbeats sent before this connection listened would prove nothing about it.
    const onListening = () => {
      if (!current()) return;
      provenAtMs = Number.NEGATIVE_INFINITY;
      sentAtMs.clear();
      tell({ kind: "all" });
    };
    await client.listen(changesChannel, (payload) => current() && tell(parseChange(payload)), onListening);
    await client.listen(heartbeatChannel, (payload) => current() && onHeartbeat(payload));
  }

  /** Postgres may be gone without a word, and so may what lies between: a silent listener is replaced, not waited for. */
  async function replaceListener(): Promise<void> {
    if (replacing || closed) return;
    replacing = true;
    const old = listener;
    try {
      await listen();
    } catch (error) {
      options.onError("cannot LISTEN for changes; verdicts read the database", error);
    } finally {
      replacing = false;
      void old.end({ timeout: 0 }).catch(() => {});
    }
  }

  async function sendHeartbeat(): Promise<void> {
    const n = ++beat;
    sentAtMs.set(n, performance.now());
    if (sentAtMs.size > 1000) sentAtMs.delete(sentAtMs.keys().next().value as number);
    try {
      await options.heartbeat`SELECT pg_notify(${heartbeatChannel}, ${String(n)})`;
      setDatabaseUp(true);
    } catch (error) {
      setDatabaseUp(false, error);
    }
  }

  let inFlight: Promise<void> | undefined;
  let inFlightSinceMs = 0;
  function tick(): void {
    const now = performance.now();
    if (inFlight === undefined) {
      inFlightSinceMs = now;
      inFlight = sendHeartbeat().finally(() => {
        inFlight = undefined;
      });
    } else if (now - inFlightSinceMs > options.maxStalenessMs) {
      setDatabaseUp(false, new Error(`no answer for ${Math.round(now - inFlightSinceMs)} ms`));
    }
    const silentForMs = now - Math.max(provenAtMs, listeningSinceMs);
    if (silentForMs > options.maxStalenessMs) void replaceListener();
  }

  try {
    await listen();
    await sendHeartbeat();
  } catch (error) {
    await Promise.allSettled([listener!.end({ timeout: 0 }), options.heartbeat.end({ timeout: 0 })]);
    throw error;
  }
  const timer = setInterval(tick, intervalMs);

  return {
    isFresh,
    provenAtMs: () => provenAtMs,
    isDatabaseUp: () => databaseUp,
    onChange(listen) {
      changeListeners.add(listen);
      return () => changeListeners.delete(listen);
    },
    onDatabaseUp(listen) {
      upListeners.add(listen);
      return () => upListeners.delete(listen);
    },
    async close() {
      closed = true;
      clearInterval(timer);
      await Promise.allSettled([listener.end({ timeout: 1 }), options.heartbeat.end({ timeout: 1 })]);
    },
  };
}

/** Reads "key:<uuid>" or "user:<id>"; whatever else is sent there may mean anything. */
function parseChange(payload: string): GrantChange {
  const [, kind, id] = payload.match(/^(key|user):([0-9a-f-]+)$/) ?? [];
  if (kind === "key" && id !== undefined) return { kind, apiKeyId: id };
  if (kind === "user" && id !== undefined && /^\d+$/.test(id)) return { kind, userId: BigInt(id) };
  return { kind: "all" };
}

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
import { within } from "../within.ts";

const changesChannel = "latchkey_changes";
/** LISTEN takes a round trip; a connection that has not answered by then is given up. */
const listenTimeoutMs = 5000;

export interface Fence {
  /** Whether what is cached may be used: every change up to `maxStalenessMs` ago has been heard. */
  isFresh(): boolean;
  /** When the newest heartbeat that came back was sent; on the clock of performance.now(). */
  provenAtMs(): number;
  /**
   * Resolves once every change that was committed before this call has been heard, or
   * nothing that is cached may be used: whichever comes first, and so within `maxStalenessMs`.
   */
  caughtUp(): Promise<void>;
  /**
   * Calls back for each change heard, with "unheard" when the fence ceases to be
   * fresh, and with "all" after the gap. Returns how to stop.
   */
  onChange(listener: (change: GrantChange) => void): () => void;
  /** Calls back when the database stops or starts to answer. Returns how to stop. */
  onDatabaseUp(listener: (up: boolean) => void): () => void;
  close(): Promise<void>;
}

export interface FenceOptions {
  /** Opens a client of one connection for LISTEN. Called again to replace one that was closed or went silent. */
  connectListener: (events: NotificationEvents) => postgres.Sql;
  /** Sends heartbeats; a connection of its own, so that a busy pool delays none. Owned by the fence. */
  heartbeat: postgres.Sql;
  /** A UUID. */
  instanceId: string;
  maxStalenessMs: number;
  onError: (message: string, error: unknown) => void;
}

/** What a listening client tells. */
export interface NotificationEvents {
  onNotification: (channel: string, payload: string) => void;
  /** The connection ended, whoever ended it. */
  onClose: () => void;
}

/** Creates the fence and resolves once it listens. Rejects where it cannot. */
export async function createFence(options: FenceOptions): Promise<Fence> {
  const heartbeatChannel = `latchkey_heartbeat_${options.instanceId.replaceAll("-", "")}`;
  const intervalMs = Math.max(20, options.maxStalenessMs / 4);
  const changeListeners = new Set<(change: GrantChange) => void>();
  const upListeners = new Set<(up: boolean) => void>();
  const waiting = new Set<{ readonly sinceMs: number; readonly resolve: () => void }>();
  const sentAtMs = new Map<number, number>();
  let beat = 0;
  let provenAtMs = Number.NEGATIVE_INFINITY;
  let databaseUp = true;
  let closed = false;
  let listener: postgres.Sql;
  let listeningSinceMs = 0;
  let listening = false;
  let deaf = false;
  let replacing: Promise<void> | undefined;
  let staleTimer: NodeJS.Timeout | undefined;

  const isFresh = () => performance.now() - provenAtMs <= options.maxStalenessMs;
  const tell = (change: GrantChange) => {
    for (const listen of changeListeners) listen(change);
  };

  function onHeartbeat(payload: string): void {
    const sent = sentAtMs.get(Number(payload));
    if (sent === undefined) return;
    if (sent > provenAtMs) {
      provenAtMs = sent;
      clearTimeout(staleTimer);
      staleTimer = setTimeout(tellUnheard, sent + options.maxStalenessMs - performance.now());
    }
    for (const [n, at] of sentAtMs) if (at <= sent) sentAtMs.delete(n);
    releaseWaiting((sinceMs) => sinceMs <= provenAtMs);
  }

  function releaseWaiting(may: (sinceMs: number) => boolean): void {
    for (const entry of waiting) {
      if (!may(entry.sinceMs)) continue;
      waiting.delete(entry);
      entry.resolve();
    }
  }

  /** What was let in before, and holds on, must be looked at when the proof runs out, not some time later. */
  function tellUnheard(): void {
    // Timers round down, and may be a little early.
    if (isFresh()) {
      staleTimer = setTimeout(tellUnheard, 1);
      return;
    }
    tell({ kind: "unheard" });
    releaseWaiting(() => true);
  }

  function setDatabaseUp(up: boolean, error?: unknown): void {
    if (up === databaseUp || closed) return;
    databaseUp = up;
    if (!up) options.onError("the database does not answer", error);
    for (const listen of upListeners) listen(up);
  }

  async function listen(): Promise<void> {
    const client = options.connectListener({
      onNotification(channel, payload) {
        if (client !== listener || closed) return;
        if (channel === changesChannel) tell(parseChange(payload));
        else if (channel === heartbeatChannel) onHeartbeat(payload);
      },
      onClose() {
        if (client !== listener || closed) return;
        listening = false;
        // At once, unless it has only just been tried: then at the next tick.
        if (performance.now() - listeningSinceMs > intervalMs) replaceListener();
      },
    });
    listener = client;
    listeningSinceMs = performance.now();
    await client`LISTEN ${client(changesChannel)}`;
    // Heartbeats sent before this connection listened would prove nothing about it.
    provenAtMs = Number.NEGATIVE_INFINITY;
    clearTimeout(staleTimer);
    sentAtMs.clear();
    tell({ kind: "all" });
    releaseWaiting(() => true);
    await client`LISTEN ${client(heartbeatChannel)}`;
    listening = true;
    deaf = false;
  }

  /** Postgres may be gone without a word, and so may what lies between: a silent listener is replaced, not waited for. */
  function replaceListener(): void {
    if (replacing !== undefined || closed) return;
    const old = listener;
    replacing = (async () => {
      try {
        await within(listenTimeoutMs, listen());
      } catch (error) {
        if (!deaf) options.onError("cannot LISTEN for changes; verdicts read the database", error);
        deaf = true;
      } finally {
        replacing = undefined;
        await old.end({ timeout: 0 }).catch(() => {});
      }
    })();
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
  /** One at a time: what comes meanwhile and waits for a later one shares the next. */
  function beatNow(): void {
    if (inFlight !== undefined || closed) return;
    inFlightSinceMs = performance.now();
    inFlight = sendHeartbeat().finally(() => {
      inFlight = undefined;
      if ([...waiting].some(({ sinceMs }) => sinceMs > inFlightSinceMs)) beatNow();
    });
  }

  function caughtUp(): Promise<void> {
    if (!isFresh() || closed) return Promise.resolve();
    return new Promise((resolve) => {
      waiting.add({ sinceMs: performance.now(), resolve });
      beatNow();
    });
  }

  function tick(): void {
    const now = performance.now();
    if (inFlight === undefined) beatNow();
    else if (now - inFlightSinceMs > options.maxStalenessMs) {
      setDatabaseUp(false, new Error(`no answer for ${Math.round(now - inFlightSinceMs)} ms`));
    }
    const silentForMs = now - Math.max(provenAtMs, listeningSinceMs);
    if (!listening || silentForMs > options.maxStalenessMs) replaceListener();
  }

  try {
    await within(listenTimeoutMs, listen());
    await within(listenTimeoutMs, sendHeartbeat());
  } catch (error) {
    await Promise.allSettled([listener!.end({ timeout: 0 }), options.heartbeat.end({ timeout: 0 })]);
    throw error;
  }
  const timer = setInterval(tick, intervalMs);

  return {
    isFresh,
    provenAtMs: () => provenAtMs,
    caughtUp,
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
      clearTimeout(staleTimer);
      releaseWaiting(() => true);
      // postgres.js would finish an attempt to connect after the client was ended, and leave that connection open.
      await replacing;
      await Promise.allSettled([listener.end({ timeout: 1 }), options.heartbeat.end({ timeout: 1 })]);
    },
  };
}

/** Reads what the triggers send: "key:<uuid>", "new user:<id>", "session:<uuid>" … Whatever else is sent there may mean anything. */
function parseChange(payload: string): GrantChange {
  const [, fresh, kind, id = ""] = payload.match(/^(new )?(key|user|session):([0-9a-f-]+)$/) ?? [];
  if (kind === "session" && !fresh) return { kind, sessionId: id };
  if (kind === "key") return fresh ? { kind: "new_key" } : { kind, apiKeyId: id };
  if (kind === "user" && /^\d+$/.test(id)) return fresh ? { kind: "new_user" } : { kind, userId: BigInt(id) };
  return { kind: "all" };
}

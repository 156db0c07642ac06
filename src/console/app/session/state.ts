/** Whether somebody is signed in, as the whole page sees it. The session itself is a cookie that no script can read. */
import { useSyncExternalStore } from "react";
import type { CurrentSession } from "../../../gen/latchkey/v1/session_service_pb.js";

export type SessionState =
  /** Not asked yet. */
  | { readonly kind: "unknown" }
  | { readonly kind: "signedOut" }
  | { readonly kind: "signedIn"; readonly me: CurrentSession }
  /** It ended under the page: what was typed stays, and calls wait for the next sign-in. */
  | { readonly kind: "ended"; readonly me: CurrentSession };

let state: SessionState = { kind: "unknown" };
const listeners = new Set<() => void>();

export function setSession(next: SessionState): void {
  state = next;
  for (const listener of listeners) listener();
}

export function getSession(): SessionState {
  return state;
}

function subscribe(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

export function useSession(): SessionState {
  return useSyncExternalStore(subscribe, getSession);
}

/** Whom the session signs in; for what is shown only when there is one. */
export function useMe(): CurrentSession {
  const session = useSession();
  if (session.kind === "signedIn" || session.kind === "ended") return session.me;
  throw new Error("nobody is signed in");
}

/** The session has ended under the page. */
export function markEnded(): void {
  if (state.kind === "signedIn") setSession({ kind: "ended", me: state.me });
}

/**
 * Waits, after a call was refused since the session has ended, until its user has
 * signed in again. Rejects with the signal's reason when the call is no longer wanted,
 * and with the refusal when somebody else signs in, or nobody does.
 */
export function signedInAgain(refusal: unknown, signal: AbortSignal): Promise<void> {
  markEnded();
  const ended = state;
  if (ended.kind !== "ended") return Promise.reject(refusal);
  return new Promise((resolve, reject) => {
    const settle = () => {
      if (state.kind === "ended" && !signal.aborted) return;
      unsubscribe();
      signal.removeEventListener("abort", settle);
      if (signal.aborted) reject(signal.reason);
      else if (state.kind === "signedIn" && state.me.userId === ended.me.userId) resolve();
      else reject(refusal);
    };
    const unsubscribe = subscribe(settle);
    signal.addEventListener("abort", settle);
    settle();
  });
}

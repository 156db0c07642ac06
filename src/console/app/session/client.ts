/** Signing in and out, and finding out at the start whether one is signed in. */
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { SessionService } from "../../../gen/latchkey/v1/session_service_pb.js";
import { queryClient, transport } from "../transport.ts";
import { getSession, type SessionState, setSession } from "./state.ts";

const client = createClient(SessionService, transport);
const channel = new BroadcastChannel("latchkey-session");

/**
 * Whether a session was begun in this browser, so that a page for nobody asks the
 * server nothing. The session's cookie itself cannot be seen.
 */
const hint = "latchkey-signed-in";

function remember(isSignedIn: boolean): void {
  try {
    if (isSignedIn) localStorage.setItem(hint, "1");
    else localStorage.removeItem(hint);
  } catch {
    // Storage is switched off: the server is asked.
  }
}

function mayBeSignedIn(): boolean {
  try {
    return localStorage.getItem(hint) !== null;
  } catch {
    return true;
  }
}

/** Another tab signed out, or in as somebody else: this one shows nothing of before. */
channel.onmessage = () => window.location.reload();

/**
 * Exchanges a token for a session. Where it is another user's than before, all that
 * was loaded for the one before is forgotten, and the page starts anew.
 */
export async function signIn(token: string): Promise<void> {
  const before = getSession();
  const { current } = await client.createSession({ token });
  if (current === undefined) throw new Error("the server made no session");
  remember(true);
  if (before.kind === "ended" && before.me.userId !== current.userId) {
    channel.postMessage("changed");
    window.location.assign(import.meta.env.BASE_URL);
    return;
  }
  setSession({ kind: "signedIn", me: current });
  await queryClient.invalidateQueries();
}

/** Ends the session. The page is loaded anew, so that nothing of what it showed is left in memory. */
export async function signOut(): Promise<void> {
  await client.deleteSession({});
  remember(false);
  channel.postMessage("changed");
  window.location.assign(`${import.meta.env.BASE_URL}sign-in`);
}

/** Asks the server who is signed in, the first time. */
export async function resumeSession(): Promise<SessionState> {
  if (getSession().kind !== "unknown") return getSession();
  if (!mayBeSignedIn()) {
    setSession({ kind: "signedOut" });
    return getSession();
  }
  try {
    const { current } = await client.getSession({});
    setSession(current === undefined ? { kind: "signedOut" } : { kind: "signedIn", me: current });
  } catch (error) {
    if (ConnectError.from(error).code !== Code.Unauthenticated) throw error;
    remember(false);
    setSession({ kind: "signedOut" });
  }
  return getSession();
}

/** The stop of a server, step by step. */
import { Code, ConnectError } from "@connectrpc/connect";
import type { Listener } from "./listener.ts";
import type { MountedRpcs } from "./rpc/mount.ts";
import { within } from "./within.ts";

/** Lets running requests finish, then ends them, then cuts their connections. */
export async function drain(
  rpcs: MountedRpcs,
  listener: Listener,
  shutdown: AbortController,
  timeoutMs: number,
): Promise<void> {
  const closed = listener.close();
  if (!(await settlesWithin(rpcs.idle(), timeoutMs))) {
    shutdown.abort(new ConnectError("the server is stopping: try again", Code.Unavailable));
    await settlesWithin(rpcs.idle(), 1000);
  }
  if (!(await settlesWithin(closed, 1000))) listener.destroy();
}

function settlesWithin(promise: Promise<unknown>, timeoutMs: number): Promise<boolean> {
  return within(timeoutMs, promise).then(
    () => true,
    () => false,
  );
}

/** Closes in order, all of them, whatever one of them says. */
export async function closeAll(
  closers: readonly (() => Promise<unknown>)[],
  onError: (message: string, error: unknown) => void = () => {},
): Promise<void> {
  for (const close of closers) {
    try {
      await close();
    } catch (error) {
      onError("the stop was not clean", error);
    }
  }
}

/** Places for streams that may stay open for long and hold memory while their reader is slow. */
import { Code, ConnectError } from "@connectrpc/connect";

export interface PlacesOptions {
  /** At once. */
  most: number;
  /** At once of one user, so that none keeps the others out. */
  mostOfOneUser: number;
  /** What a stream does, for what is told where there is no place: "tail the log". */
  what: string;
}

export interface Places {
  /**
   * Takes a place until the returned function is called or the signal aborts. Throws
   * `resource_exhausted`.
   */
  take(userId: bigint, signal: AbortSignal): () => void;
}

export function createPlaces({ most, mostOfOneUser, what }: PlacesOptions): Places {
  const byUser = new Map<bigint, number>();
  let taken = 0;

  return {
    take(userId, signal) {
      const ofUser = byUser.get(userId) ?? 0;
      if (ofUser >= mostOfOneUser) throw full(`a user ${mostOfOneUser}`);
      if (taken >= most) throw full(`${most}`);
      byUser.set(userId, ofUser + 1);
      taken++;
      let released = false;
      const release = () => {
        if (released) return;
        released = true;
        taken--;
        const left = (byUser.get(userId) ?? 1) - 1;
        if (left === 0) byUser.delete(userId);
        else byUser.set(userId, left);
      };
      // Nobody may ask the stream for more, so that it would never come to its end.
      signal.addEventListener("abort", release, { once: true });
      if (signal.aborted) release();
      return release;
    },
  };

  function full(streams: string): ConnectError {
    return new ConnectError(
      `this server lets ${streams} streams ${what} at once: end one and call again`,
      Code.ResourceExhausted,
    );
  }
}

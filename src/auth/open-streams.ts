/** The streams that a credential holds open, ended when it is no good any more. */
import type { DescMethod } from "@bufbuild/protobuf";
import type { ConnectError } from "@connectrpc/connect";
import type { Authorization, Authorizer } from "./authorizer.ts";
import type { GrantChange, GrantSource } from "./grant.ts";

/** One open stream: whose it is and how it is ended. */
interface OpenStream {
  readonly method: DescMethod;
  readonly authorization: Authorization;
  readonly end: (error: ConnectError) => void;
}

export interface OpenStreams {
  /** Watches a stream until the returned function is called. */
  watch(stream: OpenStream): () => void;
  /** Streams that are watched now. */
  readonly size: number;
  /** Stops watching. */
  close(): void;
}

/**
 * Creates the watch. A stream is looked at again at once when its key or user
 * changes, and every `recheckMs` besides: that is how it ends on expiry, and
 * within the stated bound while no change can be heard.
 */
export function createOpenStreams(options: {
  authorizer: Authorizer;
  grants: GrantSource;
  recheckMs: number;
}): OpenStreams {
  const streams = new Set<OpenStream>();

  async function recheck(stream: OpenStream): Promise<void> {
    const { error } = await options.authorizer.recheck(stream.method, stream.authorization.credential);
    if (error !== undefined && streams.has(stream)) stream.end(error);
  }

  const stopListening = options.grants.onChange((change) => {
    for (const stream of streams) if (concerns(change, stream)) void recheck(stream);
  });
  const timer = setInterval(() => {
    for (const stream of streams) void recheck(stream);
  }, options.recheckMs).unref();

  return {
    watch(stream) {
      streams.add(stream);
      return () => streams.delete(stream);
    },
    get size() {
      return streams.size;
    },
    close() {
      stopListening();
      clearInterval(timer);
      streams.clear();
    },
  };
}

function concerns(change: GrantChange, stream: OpenStream): boolean {
  const subject = stream.authorization.verdict.subject;
  switch (change.kind) {
    case "all":
      return true;
    case "key":
      return subject?.apiKeyId === change.apiKeyId;
    case "user":
      return subject?.userId === change.userId;
    default:
      return false;
  }
}

/** The streams that a credential holds open, ended when it is no good any more, or less than it was. */
import type { DescMethod } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import type { Authorization, Authorizer } from "./authorizer.ts";
import type { GrantChange, GrantSource } from "./grant.ts";
import type { Verdict } from "./verdict.ts";

/** Look-ups at once, when all streams are looked at: far fewer than the cache takes. */
const recheckConcurrency = 16;

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
 * changes, when changes can be heard no more, and every `recheckMs` besides: that
 * is how it ends on expiry, and by a revocation that nobody could hear.
 */
export function createOpenStreams(options: {
  authorizer: Authorizer;
  grants: GrantSource;
  recheckMs: number;
  /** Told of what went wrong other than the verdict. */
  onError: (error: unknown) => void;
}): OpenStreams {
  const streams = new Set<OpenStream>();

  /** Asks once for each credential, method and address, however many streams they hold, a few at a time. */
  async function recheck(concerned: Iterable<OpenStream>): Promise<void> {
    const groups = new Map<string, OpenStream[]>();
    for (const stream of concerned) {
      const { credential, peerAddress } = stream.authorization;
      const of = "hash" in credential ? `${credential.kind} ${credential.hash}` : credential.kind;
      const key = `${stream.method.toString()} ${peerAddress} ${of}`;
      const group = groups.get(key);
      if (group === undefined) groups.set(key, [stream]);
      else group.push(stream);
    }
    const queue = groups.values();
    const work = async () => {
      for (const group of queue) await recheckGroup(group);
    };
    await Promise.all(Array.from({ length: recheckConcurrency }, work));
  }

  async function recheckGroup(group: OpenStream[]): Promise<void> {
    const [first] = group;
    if (first === undefined) return;
    const { error, verdict } = await options.authorizer.recheck(first.method, first.authorization);
    for (const stream of group) {
      const reason = error ?? lostStaff(stream.authorization.verdict, verdict);
      if (reason !== undefined && streams.has(stream)) stream.end(reason);
    }
  }

  function start(concerned: OpenStream[]): void {
    if (concerned.length > 0) recheck(concerned).catch(options.onError);
  }

  const stopListening = options.grants.onChange((change) => {
    start([...streams].filter((stream) => concerns(change, stream)));
  });
  const timer = setInterval(() => start([...streams]), options.recheckMs).unref();

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

/** What a stream shows was decided when it opened: it must not go on showing what staff see. */
function lostStaff(before: Verdict, now: Verdict): ConnectError | undefined {
  if (!before.principal?.isStaff || now.principal?.isStaff) return undefined;
  return new ConnectError("the user of this stream is no longer staff", Code.PermissionDenied);
}

function concerns(change: GrantChange, stream: OpenStream): boolean {
  const { subject, principal } = stream.authorization.verdict;
  switch (change.kind) {
    case "all":
    case "unheard":
      return true;
    case "key":
      return subject?.apiKeyId === change.apiKeyId;
    case "user":
      return subject?.userId === change.userId;
    case "session":
      return principal?.sessionId === change.sessionId;
    default:
      return false;
  }
}

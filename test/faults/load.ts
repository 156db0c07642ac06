/** Clients that call GetUser again and again, over gRPC unless told otherwise, until they are stopped. */

import { randomUUID } from "node:crypto";
import { after } from "node:test";
import { Code, ConnectError, createClient, type Transport } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { UserService } from "../../src/gen/api/users/user_service_pb.js";

export interface LoadOptions {
  /** Servers that are called in turn; may be added to and taken from while it runs. */
  readonly urls: string[];
  /** Tokens that are used in turn; may be changed likewise. */
  readonly tokens: string[];
  /** Calls under way at once. */
  readonly clients: number;
  /** The user whom the calls ask for: one that every token may read. */
  readonly userId: bigint;
  /** Each client rests so long after each call; 0 unless given. */
  readonly pauseMs?: number;
  /** How a server is called; gRPC unless given. */
  readonly createTransport?: (baseUrl: string) => Transport;
  /** Told of every call as it ends. */
  readonly onResult?: (result: CallResult) => void;
}

export interface CallResult {
  readonly url: string;
  readonly token: string;
  /** The call's own, by which its row in the request log is found. */
  readonly requestId: string;
  /** Undefined: answered. */
  readonly error: ConnectError | undefined;
  /** By `performance.now()`. */
  readonly startedAt: number;
  readonly endedAt: number;
}

export interface Load {
  /** Calls that were answered so far, by token. */
  readonly answered: Map<string, number>;
  /** Calls that failed so far, by code, as `Code[code]`. */
  readonly failed: Map<string, number>;
  /** Resolves once all calls have ended. */
  stop(): Promise<void>;
}

/** Those that a test which failed has left running: its file would never end. */
const left = new Set<() => void>();
after(() => {
  for (const end of left) end();
});

export function startLoad(options: LoadOptions): Load {
  const answered = new Map<string, number>();
  const failed = new Map<string, number>();
  const services = new Map<string, ReturnType<typeof createClient<typeof UserService>>>();
  const createTransport = options.createTransport ?? overGrpc;
  let running = true;
  let turn = 0;

  async function run(): Promise<void> {
    while (running) {
      const n = turn++;
      const url = options.urls[n % options.urls.length];
      const token = options.tokens[n % options.tokens.length];
      if (url === undefined || token === undefined) throw new Error("load needs a URL and a token");
      const service = services.get(url) ?? createClient(UserService, createTransport(url));
      services.set(url, service);
      const requestId = randomUUID();
      const startedAt = performance.now();
      const error = await service
        .getUser({ userId: options.userId }, { headers: { "x-api-key": token, "x-request-id": requestId } })
        .then(
          () => undefined,
          (thrown: unknown) => ConnectError.from(thrown),
        );
      if (error === undefined) answered.set(token, (answered.get(token) ?? 0) + 1);
      else failed.set(Code[error.code], (failed.get(Code[error.code]) ?? 0) + 1);
      options.onResult?.({ url, token, requestId, error, startedAt, endedAt: performance.now() });
      if (options.pauseMs) await new Promise((resolve) => setTimeout(resolve, options.pauseMs));
    }
  }

  const end = () => {
    running = false;
  };
  left.add(end);
  const clients = Array.from({ length: options.clients }, run);
  return {
    answered,
    failed,
    async stop() {
      end();
      left.delete(end);
      await Promise.all(clients);
    },
  };
}

function overGrpc(baseUrl: string): Transport {
  // Calls that hang fail after a while: a load must end.
  return createGrpcTransport({ baseUrl, defaultTimeoutMs: 30_000 });
}

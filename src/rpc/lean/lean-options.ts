/** What the lean path asks of the rest of the server. */
import type { Interceptor } from "@connectrpc/connect";
import type { Compression } from "@connectrpc/connect/protocol";
import type { Authorizer } from "../../auth/authorizer.ts";
import type { CallRecorder } from "../../auth/call.ts";
import type { Admission } from "../admission.ts";
import type { Boundary } from "../boundary.ts";
import type { PeerAddress } from "../peer-address.ts";
import type { UnaryMethod } from "./unary-method.ts";

export interface LeanOptions {
  methods: readonly UnaryMethod[];
  /** Those of the server's user; the first one is outermost. */
  interceptors: readonly Interceptor[];
  authorizer: Authorizer;
  recorder: CallRecorder;
  admission: Admission;
  boundary: Boundary;
  peerAddress: PeerAddress;
  isUncapped: (service: string) => boolean;
  /** That answers may be compressed by. */
  acceptCompression: readonly Compression[];
  /** Bytes of one message, each way. */
  maxMessageBytes: number;
  /** Milliseconds for an RPC, and again for its client to take the answer; 0: no limit. */
  maxUnaryMs: number;
  /** Aborts what still runs when a stop has waited long enough. */
  shutdownSignal: AbortSignal;
}

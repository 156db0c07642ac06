/** One RPC on our server: what its request, gate and response share, from start to record. */
import {
  Code,
  ConnectError,
  type ContextKey,
  type ContextValues,
  createContextKey,
  createContextValues,
  type HandlerContext,
} from "@connectrpc/connect";
import { beginCall, type Call, type CallRecorder, callKey, endCall } from "../auth/call.ts";
import { methodName } from "../auth/method-name.ts";
import { abortError, iterateUntilAborted } from "../auth/until-aborted.ts";
import type { Place } from "./admission.ts";
import { gather } from "./pieces.ts";

const runningKey: ContextKey<RunningRpc | undefined> = createContextKey<RunningRpc | undefined>(undefined, {
  description: "latchkey running rpc",
});

export class RunningRpc {
  readonly values: ContextValues;
  /** Undefined until the gate: what is refused before it is no RPC (a wrong verb, an unknown content type). */
  call: Call | undefined;
  requestBytes = 0;
  responseBytes = 0;
  /** What the answer says, where it is an error. */
  wireError: ConnectError | undefined;
  /** True once the client is gone. */
  clientGone = false;
  /** Set: this is answered, and nobody is called. */
  refusal: ConnectError | undefined;
  /** What the request said, where its body is read as another type. */
  contentType: string | undefined;
  readonly place: Place;
  readonly #recorder: CallRecorder;
  readonly #peerAddress: string;
  #context: HandlerContext | undefined;
  /** The client's deadline, in milliseconds from the start. */
  #timeoutMs: number | undefined;
  #recorded = false;

  constructor(recorder: CallRecorder, peerAddress: string, place: Place) {
    this.place = place;
    this.#recorder = recorder;
    this.#peerAddress = peerAddress;
    this.values = createContextValues().set(runningKey, this);
  }

  static of(context: HandlerContext): RunningRpc | undefined {
    return context.values.get(runningKey);
  }

  /** The gate was reached: from here on it is an RPC. A call that was begun before goes on. */
  begin(context: HandlerContext): Call {
    this.#context = context;
    this.#timeoutMs = context.timeoutMs();
    if (this.contentType !== undefined) context.requestHeader.set("content-type", this.contentType);
    if (this.call === undefined) {
      this.call = beginCall({
        method: methodName(context.method),
        protocol: context.protocolName,
        requestId: context.requestHeader.get("x-request-id"),
        userAgent: context.requestHeader.get("user-agent"),
        peerAddress: this.#peerAddress,
      });
      this.#recorder.begin?.(this.call, (name) => context.requestHeader.get(name));
    }
    this.values.set(callKey, this.call);
    return this.call;
  }

  /** The request's body, counted, and cut off when the RPC ends or its deadline passes. */
  async *incoming(
    body: AsyncIterable<Uint8Array>,
    maxMessageBytes: number,
  ): AsyncGenerator<Uint8Array, void, undefined> {
    const context = this.#context;
    const signal = context?.signal;
    // The one message of a unary Connect call is its body.
    const isFramed = context?.protocolName !== "connect" || context.method.methodKind !== "unary";
    try {
      yield* gather(this.#counted(signal === undefined ? body : iterateUntilAborted(body, signal)), {
        isFramed,
        maxMessageBytes,
      });
    } catch (error) {
      throw signal?.aborted ? abortError(signal) : error;
    }
  }

  async *#counted(body: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, void, undefined> {
    for await (const chunk of body) {
      this.requestBytes += chunk.byteLength;
      yield chunk;
    }
  }

  /** The answer is complete but for its trailers: takes their word for how it ended (gRPC and gRPC-Web). */
  readTrailers(): void {
    const context = this.#context;
    if (context === undefined || context.protocolName === "connect") return;
    this.wireError = readStatus(context.responseTrailer) ?? this.wireError;
  }

  /**
   * Records the RPC, once; later calls do nothing. A promise where it must be
   * waited for before the answer is sent; it rejects where it was not counted.
   */
  record(): undefined | Promise<void> {
    if (this.call === undefined || this.#recorded) return undefined;
    this.#recorded = true;
    const error = this.#error();
    return this.#recorder.record(
      endCall(this.call, {
        code: error?.code ?? 0,
        errorMessage: error?.rawMessage,
        requestBytes: this.requestBytes,
        responseBytes: this.responseBytes,
      }),
    );
  }

  /**
   * The error that the RPC ended with. Connect aborts a context with the error
   * that it sends, the boundary seeing to it that a handler's is a ConnectError;
   * where writing the answer failed, the wire alone tells.
   */
  #error(): ConnectError | undefined {
    const signal = this.#context?.signal;
    let error: ConnectError | undefined;
    if (signal?.aborted && signal.reason instanceof ConnectError) {
      error = this.clientGone ? abortError(signal) : signal.reason;
    } else if (this.wireError !== undefined) error = this.wireError;
    else if (this.clientGone) error = new ConnectError("the client went away", Code.Canceled);
    return error?.code === Code.Canceled ? orLate(error, this.#timeoutMs, this.#context?.timeoutMs()) : error;
  }
}

/** The error that gRPC's trailers tell of; undefined: they say ok, or nothing. */
export function readStatus(trailer: Headers): ConnectError | undefined {
  const status = Number(trailer.get("grpc-status") ?? 0);
  if (status === 0) return undefined;
  return new ConnectError(decodeURIComponent(trailer.get("grpc-message") ?? ""), status);
}

/**
 * Why a client cancelled: at its deadline, where that is as good as passed, since its
 * timer started before ours did. Both in milliseconds; undefined: it had none.
 */
export function orLate(
  canceled: ConnectError,
  timeoutMs: number | undefined,
  leftMs: number | undefined,
): ConnectError {
  if (leftMs === undefined || timeoutMs === undefined) return canceled;
  if (leftMs > Math.min(100, timeoutMs / 2)) return canceled;
  return new ConnectError("the deadline passed at the client", Code.DeadlineExceeded);
}

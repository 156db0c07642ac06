/** One unary RPC on the lean path, from its headers to its end. */
import type { Message } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import type { Authorization } from "../../auth/authorizer.ts";
import { beginCall, type Call, cannotCount, endCall } from "../../auth/call.ts";
import type { RunningList, Timed } from "../../running-list.ts";
import { Place } from "../admission.ts";
import { orLate, readStatus } from "../running-rpc.ts";
import type { HandedOver } from "../stock.ts";
import { Body } from "./body.ts";
import { answerError, answerJson, answerMessage, type HookHeaders, type LeanAnswer } from "./lean-answer.ts";
import type { LeanOptions } from "./lean-options.ts";
import { readMessage, textBytes } from "./request-message.ts";
import { type LeanRequestHead, TouchedRpc } from "./touched-rpc.ts";

/** What all RPCs of a path share. */
export interface LeanShared extends LeanOptions {
  /** Not answered yet. */
  readonly unanswered: RunningList<LeanRpc>;
  /** Answered, and the answer not taken yet. */
  readonly untaken: RunningList<LeanRpc>;
}

/** Lets Connect's handlers go on with an RPC. */
export type PassOn = (handedOver: HandedOver) => void;

const deciding = 0;
const reading = 1;
const running = 2;
const answering = 3;
const ended = 4;

export abstract class LeanRpc extends TouchedRpc implements Timed {
  sinceMs = 0;
  earlier: Timed | undefined = undefined;
  later: Timed | undefined = undefined;
  list: object | undefined = undefined;
  /** Of a hook that the request has passed. */
  hookHeaders: HookHeaders | undefined;
  protected readonly shared: LeanShared;
  protected readonly body = new Body();
  readonly #place: Place;
  #call: Call | undefined;
  #phase = deciding;
  #isRecorded = false;
  #timer: NodeJS.Timeout | undefined;
  /** What came over it while it could not be answered yet. */
  #overdue: ConnectError | undefined;

  constructor(shared: LeanShared, head: LeanRequestHead) {
    super(head);
    this.shared = shared;
    this.#place = new Place(head.method.isUncapped);
  }

  /** Reads the body, to tell `take` and `bodyEnded`. */
  protected abstract readBody(): void;
  /** Writes the answer. */
  protected abstract write(answer: LeanAnswer, call: Call): void;
  /** Cuts the client off. */
  protected abstract destroy(): void;
  /** False: the client has left, or is leaving, so that nobody could go on. */
  protected canHandOver(): boolean {
    return true;
  }
  /** Lets Connect's handlers go on with what is left of the request. */
  protected abstract handOver(call: Call): void;
  /** Why the client is gone. */
  protected abstract resetReason(): ConnectError | undefined;

  start(peerAddress: string): void {
    const { shared, head } = this;
    const refusal = shared.admission.enter(this.#place);
    const userAgent = head.headers["user-agent"];
    const requestId = head.headers["x-request-id"];
    const call = beginCall({
      method: head.method.name,
      protocol: head.codec.protocol,
      requestId: typeof requestId === "string" ? requestId : undefined,
      userAgent,
      peerAddress,
    });
    shared.recorder.begin?.(call, this.#readHeader);
    this.#call = call;
    this.values.call = call;
    shared.unanswered.add(this, call.startedMs);
    if (head.timeoutMs !== undefined) {
      this.startDeadline(head.timeoutMs);
      this.#timer = setTimeout(deadlinePassed, head.timeoutMs, this as LeanRpc);
    }
    if (refusal !== undefined) this.#refuse(refusal);
    else if (!shared.recorder.accepts(head.method.name)) this.#refuse(cannotCount());
    else this.#authorize();
  }

  #authorize(): void {
    const { admission, authorizer } = this.shared;
    const { head, method, values } = this;
    head.credential ??= authorizer.read(this.#readHeader);
    const authorization = authorizer.authorize(method.method, head.credential, values);
    if (authorization instanceof Promise) {
      admission.waitFor(this.#place, authorization).then(
        (later) => this.#decided(later),
        (error: unknown) => this.#refuse(this.#toWire(error)),
      );
    } else this.#decided(authorization);
  }

  readonly #readHeader = (name: string): string | undefined => {
    const { headers } = this.head;
    const value = name === "host" ? (headers[":authority"] ?? headers.host) : headers[name];
    return typeof value === "string" ? value : undefined;
  };

  #decided({ error, verdict }: Authorization): void {
    if (this.#phase !== deciding) return;
    const refusal = error ?? this.shared.admission.decided(this.#place, verdict.principal === undefined);
    if (refusal !== undefined) {
      this.#refuse(refusal);
      return;
    }
    this.#phase = reading;
    if (this.#overdue !== undefined) this.fail(this.#overdue);
    else if (this.head.query !== undefined) this.bodyEnded();
    else this.readBody();
  }

  #refuse(error: ConnectError): void {
    if (this.#phase !== deciding) return;
    this.#phase = reading;
    this.shared.admission.refused(this.#place);
    this.fail(error);
  }

  take(chunk: Buffer): void {
    // Answered already, by its deadline for example: what still comes is nobody's.
    if (this.#phase !== reading) return;
    this.body.add(chunk);
    if (this.body.isAbove(this.shared.maxMessageBytes, this.codec)) this.passOn();
  }

  protected bodyEnded(): void {
    if (this.#phase !== reading) return;
    this.body.isWhole = true;
    const message = this.head.query ?? readMessage(this.codec, this.body.whole(), this.method.keepsBytes);
    if (message === undefined) {
      this.passOn();
      return;
    }
    try {
      const request = this.method.serialization.getI(this.codec.isBinary).parse(message);
      this.#phase = running;
      this.#authorizeAgain(request);
    } catch (error) {
      this.fail(this.#toWire(error));
    }
  }

  /** While the body came in, the credential may have ended: not within the same millisecond. */
  #authorizeAgain(request: Message): void {
    const { values, shared, method } = this;
    const before = values.authorization;
    if (before === undefined || Date.now() === this.#call?.startedAtMs) {
      this.#invoke(request);
      return;
    }
    const conclude = ({ error }: Authorization) => {
      if (error === undefined) this.#invoke(request);
      else this.fail(error);
    };
    const now = shared.authorizer.reauthorize(method.method, before, values);
    if (now instanceof Promise) now.then(conclude, (error: unknown) => this.fail(this.#toWire(error)));
    else conclude(now);
  }

  #invoke(request: Message): void {
    if (this.#phase !== running) return;
    try {
      const span = this.#call?.span;
      const answer =
        span === undefined
          ? this.method.invoke(this, request)
          : span.run(() => this.method.invoke(this, request));
      if (answer instanceof Promise) {
        answer.then(
          (message) => this.#succeed(message),
          (error: unknown) => this.fail(this.#toWire(error)),
        );
      } else this.#succeed(answer);
    } catch (error) {
      this.fail(this.#toWire(error));
    }
  }

  #toWire(error: unknown): ConnectError {
    // What comes after the end is nobody's answer, nor the log's concern.
    if (this.#phase >= answering) return gone;
    return this.shared.boundary(error, this.method.method);
  }

  #succeed(message: Message): void {
    if (this.#phase !== running) return;
    try {
      const answer = this.#answer(message);
      this.abortSignal(undefined);
      this.#conclude(answer, this.#statusOfTrailer());
    } catch (error) {
      const failure = ConnectError.from(error, Code.Internal);
      // So does Connect: what it sends in trailers comes after the handler's signal has aborted.
      this.#end(failure, this.codec.isFramed ? undefined : failure);
    }
  }

  #answer(message: Message): LeanAnswer | Promise<LeanAnswer> {
    const { codec, method } = this;
    const { compression } = this.head;
    if (!codec.isFramed && !codec.isBinary && compression === null) {
      const json = method.toJson(message);
      const bytes = Buffer.byteLength(json);
      if (bytes <= this.shared.maxMessageBytes) return answerJson(codec, json, bytes, this.metadata());
    }
    const bytes = method.serialization.getO(codec.isBinary).serialize(message);
    return answerMessage(codec, bytes, this.metadata(), compression);
  }

  /** What a handler said itself of how it ended, which is what is sent. */
  #statusOfTrailer(): ConnectError | undefined {
    return this.codec.isFramed && this.touchedTrailer !== undefined
      ? readStatus(this.touchedTrailer)
      : undefined;
  }

  /** Answers with an error, unless there is an answer already. */
  fail(error: ConnectError): void {
    this.#end(error, error);
  }

  #end(error: ConnectError, signalReason: ConnectError | undefined): void {
    if (this.#phase >= answering) return;
    if (this.#phase === deciding) {
      // What is being looked up is waited for: whose RPC it was is to be known.
      this.#overdue ??= error;
      return;
    }
    this.abortSignal(signalReason);
    try {
      this.#conclude(answerError(this.codec, error, this.metadata(), this.head.compression), error);
    } catch {
      // It cannot be put into words.
      this.#phase = answering;
      this.#record(error, 0)?.catch(() => {});
      this.destroy();
    }
  }

  #conclude(answer: LeanAnswer | Promise<LeanAnswer>, error: ConnectError | undefined): void {
    this.#phase = answering;
    if (answer instanceof Promise) {
      answer.then(
        (compressed) => this.#recordAndWrite(compressed, error),
        () => this.destroy(),
      );
    } else this.#recordAndWrite(answer, error);
  }

  #recordAndWrite(answer: LeanAnswer, error: ConnectError | undefined): void {
    if (this.#phase !== answering) return;
    const committed = this.#record(error, answer.bytes);
    if (committed === undefined) this.#write(answer);
    else
      committed.then(
        () => this.#write(answer),
        async () =>
          this.#write(await answerError(this.codec, cannotCount(), noMetadata, this.head.compression)),
      );
  }

  #write(answer: LeanAnswer): void {
    if (this.#phase !== answering || this.#call === undefined) return;
    clearTimeout(this.#timer);
    this.shared.unanswered.remove(this);
    this.shared.untaken.add(this, performance.now());
    try {
      this.write(answer, this.#call);
    } catch {
      // A handler has set what HTTP does not take, a control character in a header for example.
      this.destroy();
    }
  }

  /** Gives the RPC to Connect's handlers, which say what is wrong with it. */
  protected passOn(): void {
    const call = this.#call;
    if (!this.canHandOver()) {
      this.destroy();
      return;
    }
    this.#leave();
    if (call !== undefined) this.handOver(call);
  }

  #record(error: ConnectError | undefined, responseBytes: number): undefined | Promise<void> {
    const call = this.#call;
    if (call === undefined) return undefined;
    this.#isRecorded = true;
    return this.shared.recorder.record(
      endCall(call, {
        code: error?.code ?? 0,
        errorMessage: error?.rawMessage,
        // Text counts as the bytes that it stands for.
        requestBytes: this.codec.isText ? textBytes(this.body.whole()) : this.body.bytes,
        responseBytes,
      }),
    );
  }

  /** The connection or stream is closed: after the answer was taken, or instead. */
  protected closed(): void {
    if (this.#phase === ended) return;
    this.#leave();
    // An answer may still be being compressed.
    if (this.#isRecorded) return;
    const reset = this.resetReason();
    this.abortSignal(reset);
    const told = reset === undefined || reset.code === Code.Aborted ? gone : reset;
    const error = orLate(told, this.head.timeoutMs, this.leftMs());
    this.#record(error, 0)?.catch(() => {});
  }

  #leave(): void {
    const { shared } = this;
    clearTimeout(this.#timer);
    shared.unanswered.remove(this);
    shared.untaken.remove(this);
    shared.admission.leave(this.#place);
    this.#phase = ended;
  }

  /** The client took too long to take the answer. */
  giveUp(): void {
    this.destroy();
    this.closed();
  }
}

const noMetadata = { header: undefined, trailer: undefined };
const gone = new ConnectError("the client went away", Code.Canceled);

function deadlinePassed(rpc: LeanRpc): void {
  rpc.fail(new ConnectError("the operation timed out", Code.DeadlineExceeded));
}

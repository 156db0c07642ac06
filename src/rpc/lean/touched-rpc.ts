/** What a handler or an interceptor may touch of an RPC: made when it is touched. */
import type { IncomingHttpHeaders } from "node:http";
import type { Compression } from "@connectrpc/connect/protocol";
import type { Credential } from "../../auth/credential.ts";
import type { Codec } from "./codec.ts";
import type { ContextSource } from "./context.ts";
import type { Metadata } from "./lean-answer.ts";
import type { LeanMethod } from "./unary-method.ts";
import { LeanValues } from "./values.ts";

/** What the headers of a request say, once they are known to be of the usual form. */
export interface LeanRequestHead {
  readonly method: LeanMethod;
  readonly codec: Codec;
  readonly requestMethod: "POST" | "GET";
  readonly headers: IncomingHttpHeaders;
  /** In milliseconds; undefined: the client set none. */
  readonly timeoutMs: number | undefined;
  /** Of the answer. */
  readonly compression: Compression | null;
  /** The message of a GET; undefined: it is in the body. */
  readonly query: Uint8Array | undefined;
  /** What the headers carry of who calls; undefined: it was not read yet. */
  credential: Credential | undefined;
}

export abstract class TouchedRpc implements ContextSource {
  readonly method: LeanMethod;
  readonly codec: Codec;
  readonly requestMethod: string;
  readonly values = new LeanValues();
  protected readonly head: LeanRequestHead;
  #deadlineAtMs: number | undefined;
  #controller: AbortController | undefined;
  #hasEnded = false;
  #endReason: unknown;
  #requestHeader: Headers | undefined;
  #responseHeader: Headers | undefined;
  #responseTrailer: Headers | undefined;

  constructor(head: LeanRequestHead) {
    this.head = head;
    this.method = head.method;
    this.codec = head.codec;
    this.requestMethod = head.requestMethod;
  }

  /** The URL that was asked for, whole. */
  abstract get url(): string;

  protected startDeadline(timeoutMs: number): void {
    this.#deadlineAtMs = Date.now() + timeoutMs;
  }

  /** Undefined: nobody has touched them. */
  protected get touchedTrailer(): Headers | undefined {
    return this.#responseTrailer;
  }

  /** What handlers and interceptors have set. */
  protected metadata(): Metadata {
    const header = this.#responseHeader;
    const trailer = this.#responseTrailer;
    return header === undefined && trailer === undefined ? noMetadata : { header, trailer };
  }

  leftMs(): number | undefined {
    return this.#deadlineAtMs === undefined ? undefined : this.#deadlineAtMs - Date.now();
  }

  get requestHeader(): Headers {
    this.#requestHeader ??= toHeaders(this.head.headers);
    return this.#requestHeader;
  }

  get responseHeader(): Headers {
    if (this.#responseHeader === undefined) {
      this.#responseHeader = new Headers({ "content-type": this.codec.contentType });
      const { compression } = this.head;
      if (compression !== null && this.codec.isFramed)
        this.#responseHeader.set("grpc-encoding", compression.name);
    }
    return this.#responseHeader;
  }

  get responseTrailer(): Headers {
    this.#responseTrailer ??= new Headers(this.codec.isFramed ? { "grpc-status": "0" } : {});
    return this.#responseTrailer;
  }

  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      this.#controller = new AbortController();
      if (this.#hasEnded) this.#controller.abort(this.#endReason);
    }
    return this.#controller.signal;
  }

  /** As on Connect's path, a signal aborts at the end of every RPC. */
  protected abortSignal(reason: unknown): void {
    this.#hasEnded = true;
    this.#endReason = reason;
    this.#controller?.abort(reason);
  }
}

const noMetadata: Metadata = { header: undefined, trailer: undefined };

function toHeaders(headers: IncomingHttpHeaders): Headers {
  const made = new Headers();
  for (const [name, value] of Object.entries(headers)) {
    if (value === undefined || name.startsWith(":")) continue;
    if (typeof value === "string") made.append(name, value);
    else for (const one of value) made.append(name, one);
  }
  return made;
}

/** The lean path over HTTP/1.1 that node:http has parsed: where hooks came first, or something about the connection was odd. */
import type { IncomingMessage, ServerResponse } from "node:http";
import type { TLSSocket } from "node:tls";
import { Code, ConnectError } from "@connectrpc/connect";
import type { Call } from "../../auth/call.ts";
import { discardRest, guardUpload, isUpload } from "../../request-body.ts";
import { headersOf, type LeanAnswer } from "./lean-answer.ts";
import { LeanRpc, type LeanShared, type PassOn } from "./lean-rpc.ts";
import type { LeanRequestHead } from "./touched-rpc.ts";

const rpcKey = Symbol("lean rpc");
interface LeanIncoming extends IncomingMessage {
  [rpcKey]?: NodeRpc | undefined;
}
interface LeanResponse extends ServerResponse {
  [rpcKey]?: NodeRpc | undefined;
}

export class NodeRpc extends LeanRpc {
  readonly #req: LeanIncoming;
  readonly #res: LeanResponse;
  readonly #passOn: PassOn;

  constructor(
    shared: LeanShared,
    head: LeanRequestHead,
    req: IncomingMessage,
    res: ServerResponse,
    passOn: PassOn,
  ) {
    super(shared, head);
    this.#req = req;
    this.#res = res;
    this.#passOn = passOn;
    this.#req[rpcKey] = this;
    this.#res[rpcKey] = this;
    res.on("close", onClose);
  }

  get url(): string {
    const scheme = (this.#req.socket as TLSSocket).encrypted ? "https" : "http";
    return new URL(this.#req.url ?? "", `${scheme}://${this.head.headers.host}`).toString();
  }

  protected readBody(): void {
    // An empty body ends by itself, and may have done so while the verdict was waited for.
    if (this.#req.readableEnded) {
      this.requestEnded();
      return;
    }
    this.#req.on("data", onData);
    this.#req.on("end", onEnd);
  }

  requestEnded(): void {
    if (this.#req.complete) this.bodyEnded();
  }

  protected handOver(call: Call): void {
    const [req, res] = [this.#req, this.#res];
    req[rpcKey] = undefined;
    res[rpcKey] = undefined;
    req.off("data", onData).off("end", onEnd);
    // What comes until somebody reads again would be lost.
    req.pause();
    res.off("close", onClose);
    const { chunks, isWhole } = this.body;
    this.#passOn({ call, chunks, isWhole });
  }

  protected write(answer: LeanAnswer, call: Call): void {
    const [req, res] = [this.#req, this.#res];
    if (res.destroyed || res.headersSent) return;
    if (!this.body.isWhole && !req.complete) {
      if (isUpload(req.headers)) guardUpload(req, res);
      else discardRest(req, res);
    }
    res.writeHead(answer.status, headersOf(answer, this.codec, call.requestId, this.hookHeaders));
    // A text goes out in one piece with the headers, which would then be UTF-8 too: only where they are ASCII.
    const isPlain = answer.header === undefined && this.hookHeaders === undefined;
    const { body } = answer;
    res.end(typeof body === "string" && !isPlain ? Buffer.from(body) : body);
  }

  protected destroy(): void {
    this.#res.destroy();
  }

  connectionClosed(): void {
    this.closed();
  }

  /** HTTP/1.1 has no word for it; Connect's handlers hear of a GET's end as an error of the request's. */
  protected resetReason(): ConnectError | undefined {
    return this.requestMethod === "GET" ? new ConnectError("aborted", Code.Aborted) : undefined;
  }
}

// One function each for all requests, rather than one for each request.
function onData(this: LeanIncoming, chunk: Buffer): void {
  this[rpcKey]?.take(chunk);
}

function onEnd(this: LeanIncoming): void {
  this[rpcKey]?.requestEnded();
}

function onClose(this: LeanResponse): void {
  this[rpcKey]?.connectionClosed();
}

/** The lean path over HTTP/1.1. */
import type { IncomingMessage, OutgoingHttpHeaders, ServerResponse } from "node:http";
import type { TLSSocket } from "node:tls";
import type { ConnectError } from "@connectrpc/connect";
import type { Call } from "../../auth/call.ts";
import { discardRest } from "../../request-body.ts";
import type { LeanAnswer } from "./lean-answer.ts";
import { type LeanRequestHead, LeanRpc, type LeanShared, type PassOn } from "./lean-rpc.ts";

const rpcKey = Symbol("lean rpc");
interface LeanIncoming extends IncomingMessage {
  [rpcKey]?: Http1Rpc | undefined;
}
interface LeanResponse extends ServerResponse {
  [rpcKey]?: Http1Rpc | undefined;
}

export class Http1Rpc extends LeanRpc {
  readonly #req: LeanIncoming;
  readonly #res: LeanResponse;
  readonly #passOn: PassOn;
  readonly #chunks: Buffer[] = [];
  #bytes = 0;
  #isWhole = false;

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
    this.#req.on("data", onData);
    this.#req.on("end", onEnd);
  }

  take(chunk: Buffer): void {
    this.#chunks.push(chunk);
    this.#bytes += chunk.byteLength;
    this.requestBytes = this.#bytes;
  }

  bodyEnded(): void {
    this.#isWhole = true;
    const [first] = this.#chunks;
    this.bodyIsRead(
      first !== undefined && this.#chunks.length === 1 ? first : Buffer.concat(this.#chunks),
      this.#bytes,
    );
  }

  protected handOver(call: Call): void {
    const [req, res] = [this.#req, this.#res];
    req[rpcKey] = undefined;
    res[rpcKey] = undefined;
    req.off("data", onData).off("end", onEnd);
    res.off("close", onClose);
    this.#passOn({ call, chunks: this.#chunks, isWhole: this.#isWhole });
  }

  protected write(answer: LeanAnswer, call: Call): void {
    const [req, res] = [this.#req, this.#res];
    if (res.destroyed || res.headersSent) return;
    if (!this.#isWhole && !req.complete) {
      discardRest(req, res);
    }
    const headers: OutgoingHttpHeaders = {
      ...this.hookHeaders,
      "x-request-id": call.requestId,
      // Answers depend on who asks, which a cache that sees a GET would not know.
      "cache-control": "no-store",
    };
    if (answer.header !== undefined) {
      for (const [name, value] of answer.header) {
        const before = headers[name];
        // Only set-cookie comes more than once.
        headers[name] =
          name === "set-cookie" && before !== undefined ? [...[before].flat().map(String), value] : value;
      }
    } else {
      headers["content-type"] = answer.contentType;
      if (answer.encoding !== undefined) headers["grpc-encoding"] = answer.encoding;
      if (!this.codec.isFramed) headers["content-length"] = answer.bytes;
    }
    res.writeHead(answer.status, headers);
    res.end(answer.body);
  }

  protected destroy(): void {
    this.#res.destroy();
  }

  connectionClosed(): void {
    this.closed();
  }

  /** HTTP/1.1 has no word for it. */
  protected resetReason(): ConnectError | undefined {
    return undefined;
  }
}

// One function each for all requests, rather than one for each request.
function onData(this: LeanIncoming, chunk: Buffer): void {
  this[rpcKey]?.take(chunk);
}

function onEnd(this: LeanIncoming): void {
  this[rpcKey]?.bodyEnded();
}

function onClose(this: LeanResponse): void {
  this[rpcKey]?.connectionClosed();
}

/** What handlers and interceptors are given: the same as Connect gives them, made when it is touched. */
import type { DescMessage, DescMethodUnary, DescService, Message } from "@bufbuild/protobuf";
import type { ContextValues, HandlerContext, UnaryRequest } from "@connectrpc/connect";

/** What an RPC can be asked for, each of which it makes when it is asked. */
export interface ContextSource {
  readonly method: { readonly method: DescMethodUnary<DescMessage, DescMessage> };
  readonly codec: { readonly protocol: string };
  readonly requestMethod: string;
  readonly url: string;
  readonly values: ContextValues;
  readonly signal: AbortSignal;
  readonly requestHeader: Headers;
  readonly responseHeader: Headers;
  readonly responseTrailer: Headers;
  /** Milliseconds to the client's deadline; undefined: it set none. */
  leftMs(): number | undefined;
}

/** The context of an RPC, for its handler. */
export function createContext(rpc: ContextSource): HandlerContext {
  return new Proxy<HandlerContext>(new LeanContext(rpc), spreadableContext);
}

/** The request of an RPC, for interceptors. */
export function createRequest(rpc: ContextSource, message: Message): UnaryRequest {
  return new Proxy<UnaryRequest>(new LeanRequest(rpc, message), spreadableRequest);
}

/**
 * Connect's own are plain objects, and interceptors spread them. Here the fields are
 * getters of a class: a spread is told of them as if they were the object's own, and
 * every other access goes past the proxy.
 */
function spreadable<T extends object>(fields: readonly (keyof T & string)[]): ProxyHandler<T> {
  const names: readonly string[] = fields;
  return {
    ownKeys: () => [...names],
    getOwnPropertyDescriptor(target, name) {
      if (!names.includes(name as string)) return undefined;
      return { value: target[name as keyof T], enumerable: true, configurable: true, writable: true };
    },
  };
}

const spreadableContext = spreadable<HandlerContext>([
  "method",
  "service",
  "signal",
  "timeoutMs",
  "requestMethod",
  "requestHeader",
  "responseHeader",
  "responseTrailer",
  "protocolName",
  "values",
  "url",
]);

const spreadableRequest = spreadable<UnaryRequest>([
  "stream",
  "message",
  "method",
  "requestMethod",
  "url",
  "signal",
  "header",
  "service",
  "contextValues",
]);

class LeanContext implements HandlerContext {
  readonly method: DescMethodUnary<DescMessage, DescMessage>;
  readonly values: ContextValues;
  // Not of the private kind, which a proxy has not.
  readonly rpc: ContextSource;

  constructor(rpc: ContextSource) {
    this.method = rpc.method.method;
    this.values = rpc.values;
    this.rpc = rpc;
  }

  get service(): DescService {
    return this.method.parent;
  }

  get signal(): AbortSignal {
    return this.rpc.signal;
  }

  get timeoutMs(): () => number | undefined {
    return () => this.rpc.leftMs();
  }

  get requestMethod(): string {
    return this.rpc.requestMethod;
  }

  get requestHeader(): Headers {
    return this.rpc.requestHeader;
  }

  get responseHeader(): Headers {
    return this.rpc.responseHeader;
  }

  get responseTrailer(): Headers {
    return this.rpc.responseTrailer;
  }

  get protocolName(): string {
    return this.rpc.codec.protocol;
  }

  get url(): string {
    return this.rpc.url;
  }
}

class LeanRequest implements UnaryRequest {
  readonly stream = false;
  readonly message: Message;
  readonly method: DescMethodUnary<DescMessage, DescMessage>;
  readonly contextValues: ContextValues;
  readonly rpc: ContextSource;

  constructor(rpc: ContextSource, message: Message) {
    this.message = message;
    this.method = rpc.method.method;
    this.contextValues = rpc.values;
    this.rpc = rpc;
  }

  get service(): DescService {
    return this.method.parent;
  }

  get requestMethod(): string {
    return this.rpc.requestMethod;
  }

  get url(): string {
    return this.rpc.url;
  }

  get signal(): AbortSignal {
    return this.rpc.signal;
  }

  get header(): Headers {
    return this.rpc.requestHeader;
  }
}

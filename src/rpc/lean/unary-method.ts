/** What the lean path knows of a method: how to read, call and write it. */
import { create, type DescMessage, type DescMethodUnary, type Message, ScalarType } from "@bufbuild/protobuf";
import { MethodOptions_IdempotencyLevel } from "@bufbuild/protobuf/wkt";
import type { HandlerContext, Interceptor, UnaryRequest, UnaryResponse } from "@connectrpc/connect";
import {
  createMethodSerializationLookup,
  type MethodSerializationLookup,
} from "@connectrpc/connect/protocol";
import { type MethodName, methodName } from "../../auth/method-name.ts";
import { type ContextSource, createContext, createRequest } from "./context.ts";

type UnaryDesc = DescMethodUnary<DescMessage, DescMessage>;

/** A mounted method: its handler as the router was given it. */
export interface UnaryMethod {
  readonly method: UnaryDesc;
  readonly impl: (request: Message, context: HandlerContext) => unknown;
}

/** The same, ready to be called. */
export interface LeanMethod {
  readonly method: UnaryDesc;
  readonly name: MethodName;
  /** E.g. "/api.users.UserService/GetUser". */
  readonly path: string;
  /** May be called by GET (Connect protocol, "Unary-Get-Request"). */
  readonly hasNoSideEffects: boolean;
  readonly isUncapped: boolean;
  /** Its request has a field of bytes, however deep. */
  readonly keepsBytes: boolean;
  readonly serialization: MethodSerializationLookup<DescMessage, DescMessage>;
  /** Calls interceptors and handler. Throws or rejects with whatever they do. */
  invoke(rpc: ContextSource, message: Message): Message | Promise<Message>;
}

export function createLeanMethod(
  { method, impl }: UnaryMethod,
  options: { maxMessageBytes: number; interceptors: readonly Interceptor[]; isUncapped: boolean },
): LeanMethod {
  const name = methodName(method);
  const limits = { readMaxBytes: options.maxMessageBytes, writeMaxBytes: options.maxMessageBytes };
  const whole = (answer: unknown) => create(method.output, answer as Message);

  function call(context: HandlerContext, message: Message): Message | Promise<Message> {
    const answer = impl(message, context);
    return isThenable(answer) ? answer.then(whole) : whole(answer);
  }

  return {
    method,
    name,
    path: `/${name.service}/${name.name}`,
    hasNoSideEffects: method.idempotency === MethodOptions_IdempotencyLevel.NO_SIDE_EFFECTS,
    isUncapped: options.isUncapped,
    keepsBytes: hasBytes(method.input),
    serialization: createMethodSerializationLookup(method, undefined, undefined, limits),
    invoke:
      options.interceptors.length === 0
        ? (rpc, message) => call(createContext(rpc), message)
        : (rpc, message) => intercepted(rpc, message, options.interceptors, call),
  };
}

/** Calls through interceptors, the first of which is outermost. */
async function intercepted(
  rpc: ContextSource,
  message: Message,
  interceptors: readonly Interceptor[],
  call: (context: HandlerContext, message: Message) => Message | Promise<Message>,
): Promise<Message> {
  const request = createRequest(rpc, message);
  const handle = async (req: UnaryRequest): Promise<UnaryResponse> => {
    const context = createContext(rpc);
    // What an interceptor changed of the request, the handler sees in its context.
    const seen: HandlerContext =
      req === request
        ? context
        : {
            ...context,
            service: req.service,
            requestHeader: req.header,
            signal: req.signal,
            values: req.contextValues,
          };
    return {
      stream: false,
      message: await call(seen, req.message),
      method: rpc.method.method,
      service: rpc.method.method.parent,
      header: rpc.responseHeader,
      trailer: rpc.responseTrailer,
    };
  };
  const next = interceptors.reduceRight<ReturnType<Interceptor>>(
    (inner, interceptor) => interceptor(inner),
    handle as ReturnType<Interceptor>,
  );
  const response = (await next(request)) as UnaryResponse;
  replaceHeaders(rpc.responseHeader, response.header);
  replaceHeaders(rpc.responseTrailer, response.trailer);
  return response.message;
}

function replaceHeaders(target: Headers, source: Headers): void {
  if (target === source) return;
  for (const name of [...target.keys()]) target.delete(name);
  source.forEach((value, name) => {
    target.set(name, value);
  });
}

function hasBytes(message: DescMessage, seen = new Set<DescMessage>()): boolean {
  if (seen.has(message)) return false;
  seen.add(message);
  return message.fields.some((field) => {
    return (
      field.scalar === ScalarType.BYTES || (field.message !== undefined && hasBytes(field.message, seen))
    );
  });
}

function isThenable(value: unknown): value is Promise<unknown> {
  return typeof value === "object" && value !== null && "then" in value && typeof value.then === "function";
}

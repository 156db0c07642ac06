/** Makes a call as a client with a key would: without the console's session, over gRPC-Web. */
import {
  type DescMethod,
  type DescMethodServerStreaming,
  type DescMethodUnary,
  fromJson,
  type JsonValue,
  type Message,
  type Registry,
  toJson,
} from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-web";

const transport = createGrpcWebTransport({
  baseUrl: window.location.origin,
  // The cookie would be who calls, where no token is given.
  fetch: (input, init) => fetch(input, { ...init, credentials: "omit" }),
});

/** Messages of a stream that are kept. */
const mostMessages = 200;

export interface Answer {
  /** As the server spells it, e.g. "ok" or "not_found"; undefined while the call runs. */
  readonly code?: string;
  readonly error?: string;
  readonly headers: readonly (readonly [name: string, value: string])[];
  readonly trailers: readonly (readonly [name: string, value: string])[];
  readonly messages: readonly JsonValue[];
  /** How many messages came, more than are kept perhaps. */
  readonly received: number;
  readonly ms: number;
}

interface CallOptions {
  readonly method: DescMethod;
  readonly registry: Registry;
  readonly json: JsonValue;
  readonly headers: Headers;
  readonly signal: AbortSignal;
  /** Called as things come. */
  readonly onAnswer: (answer: Answer) => void;
}

/** Throws where the JSON is not one of the method's message. */
export async function makeCall({
  method,
  registry,
  json,
  headers,
  signal,
  onAnswer,
}: CallOptions): Promise<void> {
  const input = fromJson(method.input, json, { registry });
  const began = performance.now();
  let answer: Answer = { headers: [], trailers: [], messages: [], received: 0, ms: 0 };
  const tell = (part: Partial<Answer>) => {
    answer = { ...answer, ...part, ms: performance.now() - began };
    onAnswer(answer);
  };
  tell({});
  try {
    const response = await send(method, input, headers, signal);
    tell({ headers: [...response.header] });
    for await (const message of response.messages) {
      const shown = toJson(method.output, message, { registry, alwaysEmitImplicit: true });
      tell({
        received: answer.received + 1,
        messages: answer.messages.length < mostMessages ? [...answer.messages, shown] : answer.messages,
      });
    }
    tell({ code: "ok", trailers: [...response.trailer] });
  } catch (reason) {
    const error = ConnectError.from(reason);
    tell({ code: codeName(error.code), error: error.rawMessage, trailers: [...error.metadata] });
  }
}

async function send(method: DescMethod, input: Message, headers: Headers, signal: AbortSignal) {
  if (isUnary(method)) {
    const { header, trailer, message } = await transport.unary(method, signal, undefined, headers, input);
    return { header, trailer, messages: [message] };
  }
  if (!isServerStream(method)) throw new Error("a browser cannot stream what it sends");
  const { header, trailer, message } = await transport.stream(
    method,
    signal,
    undefined,
    headers,
    only(input),
  );
  return { header, trailer, messages: message };
}

// A union of descriptors is narrowed by its field only as a whole.
const isUnary = (method: DescMethod): method is DescMethodUnary => method.methodKind === "unary";
const isServerStream = (method: DescMethod): method is DescMethodServerStreaming =>
  method.methodKind === "server_streaming";

async function* only<T>(message: T) {
  yield message;
}

/** E.g. "not_found" of Code.NotFound. */
function codeName(code: Code): string {
  return (Code[code] ?? "unknown").replace(/(?<!^)[A-Z]/g, (letter) => `_${letter}`).toLowerCase();
}

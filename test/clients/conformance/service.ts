/** What the conformance suite calls: methods that answer as each request says, and tell what they saw of it. */
import { setTimeout as sleep } from "node:timers/promises";
import { create, type DescMessage, type Message } from "@bufbuild/protobuf";
import { type Any, anyPack, anyUnpack } from "@bufbuild/protobuf/wkt";
import { ConnectError, type HandlerContext, type ServiceImpl } from "@connectrpc/connect";
import type { Contract, Failure, Header, RequestInfo, StreamDefinition, UnaryDefinition } from "./schema.ts";

export function conformanceService(contract: Contract): Partial<ServiceImpl<Contract["service"]>> {
  const { registry, requestInfo: requestInfoSchema, service } = contract;
  const { unary, idempotentUnary, serverStream, clientStream, bidiStream } = service.method;

  function seen(context: HandlerContext, requests: Any[]): RequestInfo {
    const timeoutMs = context.timeoutMs();
    const query = context.requestMethod === "GET" ? new URL(context.url).searchParams : undefined;
    return create(requestInfoSchema, {
      requestHeaders: [...context.requestHeader].map(([name, value]) => ({ name, value: [value] })),
      requests,
      ...(timeoutMs !== undefined && { timeoutMs: BigInt(timeoutMs) }),
      ...(query && {
        connectGetInfo: { queryParams: [...query].map(([name, value]) => ({ name, value: [value] })) },
      }),
    });
  }

  function failure({ message, code, details }: Failure, more: RequestInfo[]): ConnectError {
    const given = details.map((detail) => {
      const value = anyUnpack(detail, registry);
      const desc = value && registry.getMessage(value.$typeName);
      if (value === undefined || desc === undefined)
        throw new Error(`the detail ${detail.typeUrl} is unknown`);
      return { desc, value };
    });
    const seenDetails = more.map((value) => ({ desc: requestInfoSchema as DescMessage, value }));
    return new ConnectError(message ?? "", code, undefined, [...given, ...seenDetails]);
  }

  async function answer(definition: UnaryDefinition | undefined, requests: Any[], context: HandlerContext) {
    setMetadata(context, definition);
    const requestInfo = seen(context, requests);
    await sleep(definition?.responseDelayMs ?? 0);
    const { response } = definition ?? {};
    if (response?.case === "error") throw failure(response.value, [requestInfo]);
    return { payload: { requestInfo, ...(response?.case === "responseData" && { data: response.value }) } };
  }

  return {
    unary: (request, context) => answer(request.responseDefinition, [pack(unary.input, request)], context),

    idempotentUnary: (request, context) =>
      answer(request.responseDefinition, [pack(idempotentUnary.input, request)], context),

    async clientStream(stream, context) {
      const { first, requests } = await readAll(clientStream.input, stream);
      return answer(first?.responseDefinition, requests, context);
    },

    async *serverStream(request, context) {
      const { responseDefinition: definition } = request;
      setMetadata(context, definition);
      yield* responses(definition, seen(context, [pack(serverStream.input, request)]));
    },

    async *bidiStream(stream, context) {
      const messages = stream[Symbol.asyncIterator]();
      const { value: first, done } = await messages.next();
      if (done) return;
      const { responseDefinition: definition } = first;
      setMetadata(context, definition);
      const firstInfo = seen(context, [pack(bidiStream.input, first)]);
      if (!first.fullDuplex) {
        const { requests } = await readAll(bidiStream.input, { [Symbol.asyncIterator]: () => messages });
        firstInfo.requests.push(...requests);
        yield* responses(definition, firstInfo);
        return;
      }
      let info: RequestInfo | undefined = firstInfo;
      for (const data of definition?.responseData ?? []) {
        await sleep(definition?.responseDelayMs ?? 0);
        yield { payload: { data, ...(info && { requestInfo: info }) } };
        // From here on, a response tells of the request that it answers alone; when there are no more, of none.
        const { value: next, done } = await messages.next();
        info = done ? undefined : create(requestInfoSchema, { requests: [pack(bidiStream.input, next)] });
      }
      if (definition?.error) {
        throw failure(definition.error, definition.responseData.length === 0 ? [firstInfo] : []);
      }
    },
  };

  /** A stream's responses. The first of them, or else its error, tells what was seen. */
  async function* responses(definition: StreamDefinition | undefined, requestInfo: RequestInfo) {
    let untold = [requestInfo];
    for (const data of definition?.responseData ?? []) {
      await sleep(definition?.responseDelayMs ?? 0);
      const [info] = untold;
      yield { payload: { data, ...(info && { requestInfo: info }) } };
      untold = [];
    }
    if (definition?.error) throw failure(definition.error, untold);
  }
}

function pack(schema: DescMessage, message: Message): Any {
  return anyPack(schema, message);
}

async function readAll<T extends Message>(schema: DescMessage, messages: AsyncIterable<T>) {
  let first: T | undefined;
  const requests: Any[] = [];
  for await (const message of messages) {
    first ??= message;
    requests.push(pack(schema, message));
  }
  return { first, requests };
}

function setMetadata(
  context: HandlerContext,
  definition: { responseHeaders: Header[]; responseTrailers: Header[] } | undefined,
): void {
  append(context.responseHeader, definition?.responseHeaders ?? []);
  append(context.responseTrailer, definition?.responseTrailers ?? []);
}

function append(to: Headers, headers: Header[]): void {
  for (const { name, value } of headers) for (const each of value) to.append(name, each);
}

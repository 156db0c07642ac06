/** The services of proto/access_table.proto: compiled when a test asks for them, as a service author's are. */
import { execFileSync } from "node:child_process";
import {
  createFileRegistry,
  type DescMethod,
  type DescMethodStreaming,
  type DescMethodUnary,
  type DescService,
  fromBinary,
  type Message,
} from "@bufbuild/protobuf";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import type { HandlerContext, ServiceImpl, Transport } from "@connectrpc/connect";

export type Kind = "Unary" | "Down" | "Up" | "Both";

type Text = Message & { text: string };

/** What a handler of any kind does: gets what was asked, and gives the texts of its answers. */
export type Handle = (
  asked: AsyncIterable<string>,
  context: HandlerContext,
) => AsyncIterable<string> | Iterable<string>;

const config = JSON.stringify({
  version: "v2",
  modules: [{ path: "proto" }, { path: "test/auth/proto" }],
});

/** Compiles the services. The key is the name without its package. */
export function compileTableServices(): Record<string, DescService> {
  const image = execFileSync(
    "node_modules/.bin/buf",
    ["build", ".", "--config", config, "--as-file-descriptor-set", "-o", "-"],
    { maxBuffer: 64 * 1024 * 1024 },
  );
  const registry = createFileRegistry(fromBinary(FileDescriptorSetSchema, image));
  const services: Record<string, DescService> = {};
  for (const type of registry) {
    if (type.kind === "service" && type.file.proto.package === "test.access") services[type.name] = type;
  }
  return services;
}

/** The method of a kind. */
export function methodOf(service: DescService | undefined, kind: Kind): DescMethod {
  const method = service?.methods.find(({ name }) => name === kind);
  if (method === undefined) throw new Error(`there is no method ${kind}`);
  return method;
}

/** Implements all four kinds of method with one handler. */
export function implement(handle: Handle): ServiceImpl<DescService> {
  const first = async (answers: ReturnType<Handle>) => {
    for await (const text of answers) return { text };
    return {};
  };
  const implementation = {
    unary: (ask: Text, context: HandlerContext) => first(handle(texts([ask]), context)),
    down: (ask: Text, context: HandlerContext) => answers(handle(texts([ask]), context)),
    up: (asks: AsyncIterable<Text>, context: HandlerContext) => first(handle(texts(asks), context)),
    both: (asks: AsyncIterable<Text>, context: HandlerContext) => answers(handle(texts(asks), context)),
  };
  return implementation as unknown as ServiceImpl<DescService>;
}

export interface CallOptions {
  text?: string;
  headers?: Record<string, string>;
  signal?: AbortSignal;
}

/** Calls a method of any kind with one message and yields the texts of its answers. Throws what the call ends with. */
export async function* call(
  transport: Transport,
  method: DescMethod,
  { text = "", headers = {}, signal }: CallOptions = {},
): AsyncGenerator<string, void, undefined> {
  if (method.methodKind === "unary") {
    const { message } = await transport.unary(method as DescMethodUnary, signal, undefined, headers, {
      text,
    } as never);
    yield (message as Text).text;
    return;
  }
  const asked = [{ text }] as never[];
  const { message } = await transport.stream(
    method as DescMethodStreaming,
    signal,
    undefined,
    headers,
    iterate(asked),
  );
  for await (const answer of message) yield (answer as Text).text;
}

/** Calls a method and returns the texts of all its answers. */
export async function callAll(...args: Parameters<typeof call>): Promise<string[]> {
  const all: string[] = [];
  for await (const text of call(...args)) all.push(text);
  return all;
}

async function* texts(messages: AsyncIterable<Text> | Iterable<Text>) {
  for await (const { text } of messages) yield text;
}

async function* answers(all: ReturnType<Handle>) {
  for await (const text of all) yield { text };
}

async function* iterate<T>(items: Iterable<T>) {
  yield* items;
}

/** `latchkey call`: any method of any server that has gRPC reflection. */
import { createInterface } from "node:readline";
import {
  createRegistry,
  type DescMessage,
  type DescMethod,
  type DescService,
  fromJson,
  type JsonValue,
  type Message,
  type Registry,
  toJson,
} from "@bufbuild/protobuf";
import { ConnectError, createClient, type Interceptor, type Transport } from "@connectrpc/connect";
import {
  createConnectTransport,
  createGrpcTransport,
  createGrpcWebTransport,
  Http2SessionManager,
} from "@connectrpc/connect-node";
import { type Command, Option } from "commander";
import { codeName } from "../rpc/code-name.ts";
import { type Cli, usageError } from "./command.ts";
import { describeCallFailure, exitCodes, Failure } from "./failure.ts";
import { escapeControls } from "./output.ts";
import { ownServices } from "./own-services.ts";
import { openReflection, type Reflection } from "./reflect.ts";
import { createRemoteCommand, defaultTimeoutMs, identify } from "./remote.ts";
import { findTarget, type RemoteOptions, type Target } from "./target.ts";
import { plain, readAll } from "./terminal.ts";

interface CallOptions extends RemoteOptions {
  readonly list?: true;
  readonly header?: readonly (readonly [string, string])[];
  readonly protocol: "grpc" | "grpc-web" | "connect";
}

export function callCommand(cli: Cli): Command {
  const command = createRemoteCommand(
    "call",
    "Call any method, like api.users.UserService/GetUser. The server says by reflection what it takes; Latchkey's own " +
      "methods are known without. Answers are JSON, one on a line where the output is not a terminal. Without a token the call is anonymous.",
    [
      `latchkey call api.users.UserService/GetUser '{"userId": 2}'`,
      `echo '{"limit": 3}' | latchkey call api.users.UserService/ListUsers -`,
      "latchkey call --list",
      "latchkey call --list api.users.UserService",
    ],
  )
    .argument("[method]", "package.Service/Method; with --list, a service")
    .argument(
      "[json...]",
      "the request (default: {}); several for a method that takes a stream; - reads standard input, for a stream one on each line",
    )
    .option("--list", "list services, or the methods of one")
    .addOption(
      new Option("-H, --header <header>", "send this too, like 'x-request-id: 7'; may be repeated").argParser(
        readHeader,
      ),
    )
    .addOption(
      new Option("--protocol <protocol>", "to speak")
        .choices(["grpc", "grpc-web", "connect"])
        .default("grpc"),
    );
  return command.action(async (name: string | undefined, inputs: string[], options: CallOptions) => {
    if (name === undefined && !options.list) throw usageError(command, "which method?");
    const target = await findTarget(cli, options);
    const { transport, close } = openTransport(target, options);
    let reflection: Reflection | undefined;
    try {
      reflection = await cli.terminal.during("asking what there is", () =>
        openReflection(transport, options.timeout ?? defaultTimeoutMs),
      );
      if (options.list) await list(cli, target, reflection, name);
      else {
        const { method, registry } = await findMethod(target, reflection, name ?? "");
        await call(cli, { transport, method, registry, inputs, options, command });
      }
    } catch (error) {
      throw error instanceof ConnectError ? inDetail(error, target.server) : error;
    } finally {
      await reflection?.close();
      close();
    }
  });
}

function readHeader(text: string, before: readonly (readonly [string, string])[] = []) {
  const [, name = "", value = ""] = text.match(/^([\w-]+):\s*(.*)$/) ?? [];
  if (name === "")
    throw new Failure("--header takes a name and a value, like 'x-request-id: 7'", exitCodes.usage);
  if (/^(authorization|cookie|x-api-key)$/i.test(name)) {
    throw new Failure(
      `--header does not take ${name}: a token comes by --token-file, LATCHKEY_TOKEN or a login`,
      exitCodes.usage,
    );
  }
  return [...before, [name, value] as const];
}

/** All of it over HTTP/2: streams in both directions need it. */
function openTransport(target: Target, options: CallOptions): { transport: Transport; close: () => void } {
  const sessionManager = new Http2SessionManager(target.server, {}, { ...(target.ca && { ca: target.ca }) });
  const addHeaders: Interceptor = (next) => (request) => {
    for (const [name, value] of options.header ?? []) request.header.append(name, value);
    return next(request);
  };
  const settings = {
    baseUrl: target.server,
    interceptors: [...identify(target.token), addHeaders],
    sessionManager,
  };
  const transport =
    options.protocol === "grpc"
      ? createGrpcTransport(settings)
      : options.protocol === "grpc-web"
        ? createGrpcWebTransport({ ...settings, httpVersion: "2" })
        : createConnectTransport({ ...settings, httpVersion: "2" });
  return { transport, close: () => sessionManager.abort() };
}

async function list(cli: Cli, target: Target, reflection: Reflection | undefined, name: string | undefined) {
  if (name !== undefined) {
    const { service } = await findService(target, reflection, name);
    const lines = service.methods.map((method) =>
      plain(`${service.typeName}/${method.name}${shapeOf(method)}`),
    );
    return cli.terminal.print(lines.map((line) => `${line}\n`).join(""));
  }
  const services =
    (await reflection?.listServices()) ??
    [...ownServices].flatMap((desc) => (desc.kind === "service" ? [desc.typeName] : []));
  if (reflection === undefined)
    cli.terminal.note(`${target.server} has no reflection: these are Latchkey's own.`);
  await cli.terminal.print(
    services
      .sort()
      .map((service) => `${plain(service)}\n`)
      .join(""),
  );
}

/** What a method takes and gives. */
function shapeOf({ methodKind, input, output }: DescMethod): string {
  const [many, one] = ["stream ", ""];
  const takes = methodKind === "client_streaming" || methodKind === "bidi_streaming" ? many : one;
  const gives = methodKind === "server_streaming" || methodKind === "bidi_streaming" ? many : one;
  return ` (${takes}${input.typeName}) ${gives}${output.typeName}`;
}

async function findService(target: Target, reflection: Reflection | undefined, name: string) {
  const registry: Registry | undefined =
    reflection === undefined ? ownServices : await reflection.filesOf(name);
  const service: DescService | undefined = registry?.getService(name);
  if (registry !== undefined && service !== undefined) return { service, registry };
  throw new Failure(
    reflection === undefined
      ? `${target.server} has no reflection, and ${plain(name)} is none of Latchkey's own services: LATCHKEY_REFLECTION=true lets it say what it has`
      : `${target.server} has no service ${plain(name)}: latchkey call --list says which it has`,
    exitCodes.notFound,
  );
}

async function findMethod(target: Target, reflection: Reflection | undefined, text: string) {
  const [, serviceName = "", methodName = ""] = text.match(/^\/?([\w.]+)[/.](\w+)$/) ?? [];
  if (serviceName === "") {
    throw new Failure(
      "a method is written package.Service/Method, like api.users.UserService/GetUser",
      exitCodes.usage,
    );
  }
  const { service, registry } = await findService(target, reflection, serviceName);
  const method = service.methods.find(({ name }) => name === methodName);
  if (method !== undefined) return { method, registry };
  const names = service.methods.map(({ name }) => name).join(", ");
  throw new Failure(`${serviceName} has no method ${methodName}: it has ${names}`, exitCodes.notFound);
}

interface Call {
  readonly transport: Transport;
  readonly method: DescMethod;
  readonly registry: Registry;
  readonly inputs: readonly string[];
  readonly options: CallOptions;
  readonly command: Command;
}

async function call(
  { terminal }: Cli,
  { transport, method, registry, inputs, options, command }: Call,
): Promise<void> {
  const takesMany = method.methodKind === "client_streaming" || method.methodKind === "bidi_streaming";
  const givesMany = method.methodKind === "server_streaming" || method.methodKind === "bidi_streaming";
  if (!takesMany && inputs.length > 1) throw usageError(command, `${method.name} takes one request`);
  const known = createRegistry(registry, ownServices);
  const read = (text: string) => readMessage(method.input, text, known);
  const print = (message: Message) => {
    const value = toJson(method.output, message, { registry: known, alwaysEmitImplicit: true });
    const text = JSON.stringify(value, null, terminal.isOutputTerminal ? 2 : undefined);
    return terminal.print(`${escapeControls(text)}\n`);
  };
  const client = createClient(method.parent, transport) as Record<
    string,
    (input: unknown, options: object) => unknown
  >;
  const invoke = client[method.localName];
  if (invoke === undefined) throw new Error(`no client method ${method.localName}`);
  // A stream may go on for as long as it likes, unless a time was given.
  const timeoutMs = options.timeout ?? (takesMany || givesMany ? 0 : defaultTimeoutMs);
  const input = takesMany ? readStream(inputs, read) : read(await oneInput(inputs));
  const answer = invoke(input, { timeoutMs });
  if (givesMany) {
    for await (const message of answer as AsyncIterable<Message>) await print(message);
  } else {
    await print(await terminal.during(`calling ${method.name}`, () => answer as Promise<Message>));
  }
}

async function oneInput([text = "{}"]: readonly string[]): Promise<string> {
  return text === "-" ? readAll() : text;
}

/** Requests of a stream, sent as they come. */
async function* readStream(
  inputs: readonly string[],
  read: (text: string) => Message,
): AsyncIterable<Message> {
  for (const text of inputs.length === 0 ? ["{}"] : inputs) {
    if (text !== "-") yield read(text);
    else {
      for await (const line of createInterface({ input: process.stdin }))
        if (line.trim() !== "") yield read(line);
    }
  }
}

function readMessage(desc: DescMessage, text: string, registry: Registry): Message {
  let value: JsonValue;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new Failure(`the request is not JSON (${(error as Error).message})`, exitCodes.usage);
  }
  try {
    return fromJson(desc, value, { registry });
  } catch (error) {
    throw new Failure(`the request is no ${desc.typeName} (${(error as Error).message})`, exitCodes.usage);
  }
}

/** The failure with what came along, as the server's own words are all that is known of a foreign method. */
function inDetail(error: ConnectError, server: string): Failure {
  const failure = describeCallFailure(error, server);
  const details = error.details.flatMap((detail) => {
    if ("desc" in detail) return [];
    const desc = ownServices.getMessage(detail.type);
    if (desc === undefined) return [detail.type];
    const [message] = error.findDetails(desc);
    return [`${detail.type} ${JSON.stringify(message && toJson(desc, message))}`];
  });
  const name = codeName(error.code);
  const told = failure.message.includes(name) ? failure.message : `${name}: ${failure.message}`;
  return new Failure([told, ...details.map((detail) => `  ${plain(detail)}`)].join("\n"), failure.exitCode);
}

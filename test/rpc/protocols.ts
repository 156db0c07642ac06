/** A service of every kind of method, implemented by each test, and a transport for each protocol. */
import { create, createFileRegistry, type MessageInitShape, type MessageShape } from "@bufbuild/protobuf";
import type { GenService } from "@bufbuild/protobuf/codegenv2";
import {
  type BytesValueSchema,
  FileDescriptorProtoSchema,
  FileOptionsSchema,
  file_google_protobuf_wrappers,
  MethodOptions_IdempotencyLevel,
} from "@bufbuild/protobuf/wkt";
import { type Client, createClient, type ServiceImpl, type Transport } from "@connectrpc/connect";
import {
  type compressionGzip,
  createConnectTransport,
  createGrpcTransport,
  createGrpcWebTransport,
} from "@connectrpc/connect-node";
import type { Config } from "../../src/config.ts";
import { startServer, type TestServer } from "../harness/server.ts";

export type Bytes = MessageShape<typeof BytesValueSchema>;
export type BytesInit = MessageInitShape<typeof BytesValueSchema>;

type Io<Kind extends string> = {
  methodKind: Kind;
  input: typeof BytesValueSchema;
  output: typeof BytesValueSchema;
};

const bytesValue = ".google.protobuf.BytesValue";
const method = (name: string, options: object) => ({
  name,
  inputType: bytesValue,
  outputType: bytesValue,
  ...options,
});

/** Every method takes and returns bytes. It declares no access: anyone may call it. */
export const Fixture = createFileRegistry(
  create(FileDescriptorProtoSchema, {
    name: "test/fixture.proto",
    package: "test",
    syntax: "proto3",
    dependency: ["google/protobuf/wrappers.proto"],
    options: create(FileOptionsSchema),
    service: [
      {
        name: "Fixture",
        method: [
          method("Unary", { options: { idempotencyLevel: MethodOptions_IdempotencyLevel.NO_SIDE_EFFECTS } }),
          method("ServerStream", { serverStreaming: true }),
          method("ClientStream", { clientStreaming: true }),
          method("BidiStream", { clientStreaming: true, serverStreaming: true }),
        ],
      },
    ],
  }),
  () => file_google_protobuf_wrappers,
).getService("test.Fixture") as GenService<{
  unary: Io<"unary">;
  serverStream: Io<"server_streaming">;
  clientStream: Io<"client_streaming">;
  bidiStream: Io<"bidi_streaming">;
}>;

export type FixtureImpl = Partial<ServiceImpl<typeof Fixture>>;

/** Starts a server with the fixture mounted beside Latchkey's services. */
export function startFixture(implementation: FixtureImpl, config: Partial<Config> = {}): Promise<TestServer> {
  return startServer(config, { routes: (router) => router.service(Fixture, implementation) });
}

interface TransportOptions {
  sendCompression?: typeof compressionGzip;
}

export interface Protocol {
  readonly name: string;
  /** As the request log calls it. */
  readonly logged: "grpc" | "grpc-web" | "connect";
  /** The header that sets a deadline, sent past the client's own timer. */
  readonly timeoutHeader: "grpc-timeout" | "connect-timeout-ms";
  /** Its value for so many milliseconds. */
  timeout(ms: number): string;
  transport(baseUrl: string, options?: TransportOptions): Transport;
}

/**
 * Node's HTTP/2 client never gives back the memory of what it could not send of a request that was
 * answered early; at its default of 10 MB, the third upload that is refused would break its connection.
 */
const nodeOptions = { maxSessionMemory: 1000 };

const grpcTimeout = { timeoutHeader: "grpc-timeout", timeout: (ms: number) => `${ms}m` } as const;
const connectTimeout = { timeoutHeader: "connect-timeout-ms", timeout: (ms: number) => String(ms) } as const;

/** Both HTTP versions, and both formats, are among them. */
export const protocols: readonly Protocol[] = [
  {
    name: "gRPC",
    logged: "grpc",
    ...grpcTimeout,
    transport: (baseUrl, options) => createGrpcTransport({ baseUrl, nodeOptions, ...options }),
  },
  {
    name: "gRPC-Web",
    logged: "grpc-web",
    ...grpcTimeout,
    transport: (baseUrl, options) => createGrpcWebTransport({ baseUrl, httpVersion: "1.1", ...options }),
  },
  {
    name: "Connect",
    logged: "connect",
    ...connectTimeout,
    transport: (baseUrl, options) =>
      createConnectTransport({ baseUrl, httpVersion: "2", useBinaryFormat: true, nodeOptions, ...options }),
  },
  {
    name: "Connect JSON",
    logged: "connect",
    ...connectTimeout,
    transport: (baseUrl, options) =>
      createConnectTransport({ baseUrl, httpVersion: "1.1", useBinaryFormat: false, ...options }),
  },
];

export function fixtureClient(
  latchkey: TestServer,
  protocol: Protocol,
  options?: TransportOptions,
): Client<typeof Fixture> {
  return createClient(Fixture, protocol.transport(latchkey.url, options));
}

/** All messages of a stream. */
export async function collect(stream: AsyncIterable<Bytes>): Promise<Bytes[]> {
  const messages: Bytes[] = [];
  for await (const message of stream) messages.push(message);
  return messages;
}

/** A promise that a test settles, or never does. */
export const never = new Promise<never>(() => {});

/** Says that the server is as it was: it answers, over both HTTP versions. */
export async function assertAnswers(latchkey: TestServer): Promise<void> {
  const { id } = await latchkey.asStaff.users.getUser({ userId: 1n });
  if (id !== 1n) throw new Error(`user 1 was answered with ${id}`);
}

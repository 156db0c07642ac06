/** The echo service: compiled when the bench begins, its request and answer in bytes, and a true client for it. */
import { execFileSync } from "node:child_process";
import { createFileRegistry, type DescService, fromBinary, type Message } from "@bufbuild/protobuf";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { createClient, type ServiceImpl, type Transport } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport, Http2SessionManager } from "@connectrpc/connect-node";

export type Protocol = "grpc" | "json";

export const echoPath = "/bench.v1.EchoService/Echo";
export const echoName = "bench-name";

/** The answer as JSON: the request's JSON too. */
export const jsonMessage = Buffer.from(JSON.stringify({ name: echoName }));

/** The answer in gRPC's framing, not compressed, and the request: both are field 1 with one text. */
export const grpcFrame = frame(Buffer.concat([Buffer.from([0x0a, echoName.length]), Buffer.from(echoName)]));

/** Compiles the service into a file descriptor set. */
export function compileEcho(): Uint8Array {
  const config = JSON.stringify({ version: "v2", modules: [{ path: "test/bench/proto" }] });
  return execFileSync("node_modules/.bin/buf", [
    ...["build", ".", "--config", config],
    ...["--as-file-descriptor-set", "-o", "-"],
  ]);
}

/** The service of a compiled file descriptor set. */
export function echoService(image: Uint8Array): DescService {
  const service = createFileRegistry(fromBinary(FileDescriptorSetSchema, image)).getService(
    "bench.v1.EchoService",
  );
  if (service === undefined) throw new Error("test/bench/proto has no EchoService");
  return service;
}

/** Answers with what was asked. */
export const implementation = {
  echo: ({ name }: Message & { name: string }) => ({ name }),
} as unknown as ServiceImpl<DescService>;

/** A server that was flooded may be long in answering again. */
const timeoutMs = 120_000;

/**
 * Calls once with a client of the protocol, on a connection of its own. Rejects where the answer
 * is not what was sent, and with what the call ended with.
 */
export async function callOnce(
  service: DescService,
  call: { protocol: Protocol; url: string; token: string },
): Promise<void> {
  const { protocol, url, token } = call;
  const sessions = protocol === "grpc" ? new Http2SessionManager(url) : undefined;
  const transport: Transport =
    sessions === undefined
      ? createConnectTransport({
          ...{ baseUrl: url, httpVersion: "1.1", useBinaryFormat: false },
          nodeOptions: { agent: false },
        })
      : createGrpcTransport({ baseUrl: url, sessionManager: sessions });
  const client = createClient(service, transport) as unknown as {
    echo(message: object, options: object): Promise<{ name: string }>;
  };
  try {
    const { name } = await client.echo({ name: echoName }, { headers: { "x-api-key": token }, timeoutMs });
    if (name !== echoName) throw new Error(`the answer is ${JSON.stringify(name)}`);
  } finally {
    sessions?.abort();
  }
}

function frame(message: Buffer): Buffer {
  const head = Buffer.alloc(5);
  head.writeUInt32BE(message.length, 1);
  return Buffer.concat([head, message]);
}

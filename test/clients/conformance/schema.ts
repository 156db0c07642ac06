/** The contract of Connect's conformance suite, read from a descriptor set that is made from its own proto files. */
import { readFileSync } from "node:fs";
import { createFileRegistry, type DescMessage, fromBinary, type Message } from "@bufbuild/protobuf";
import type { GenMessage, GenService } from "@bufbuild/protobuf/codegenv2";
import { type Any, FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import type { Code } from "@connectrpc/connect";

const contract = "connectrpc.conformance.v1";
type Shape<Name extends string, Fields> = Message<`connectrpc.conformance.v1.${Name}`> & Fields;

export type Header = Shape<"Header", { name: string; value: string[] }>;
export type Failure = Shape<"Error", { code: Code; message?: string; details: Any[] }>;
export type RequestInfo = Shape<
  "ConformancePayload.RequestInfo",
  { requestHeaders: Header[]; timeoutMs?: bigint; requests: Any[]; connectGetInfo?: ConnectGetInfo }
>;
type ConnectGetInfo = Shape<"ConformancePayload.ConnectGetInfo", { queryParams: Header[] }>;
type Payload = Shape<"ConformancePayload", { data: Uint8Array; requestInfo?: RequestInfo }>;

interface Definition {
  responseHeaders: Header[];
  responseTrailers: Header[];
  responseDelayMs: number;
}
export type UnaryDefinition = Shape<
  "UnaryResponseDefinition",
  Definition & {
    response:
      | { case: "responseData"; value: Uint8Array }
      | { case: "error"; value: Failure }
      | { case: undefined; value?: undefined };
  }
>;
export type StreamDefinition = Shape<
  "StreamResponseDefinition",
  Definition & { responseData: Uint8Array[]; error?: Failure }
>;

type UnaryRequest<Name extends string> = GenMessage<Shape<Name, { responseDefinition?: UnaryDefinition }>>;
type StreamRequest<Name extends string> = GenMessage<
  Shape<Name, { responseDefinition?: StreamDefinition; fullDuplex: boolean }>
>;
type Response<Name extends string> = GenMessage<Shape<Name, { payload?: Payload }>>;
type Method<Kind extends string, Input extends DescMessage, Output extends DescMessage> = {
  methodKind: Kind;
  input: Input;
  output: Output;
};

/** What the runner asks a server's program for. */
type ServerCompatRequest = GenMessage<
  Shape<"ServerCompatRequest", { useTls: boolean; messageReceiveLimit: number }>
>;
type ServerCompatResponse = GenMessage<
  Shape<"ServerCompatResponse", { host: string; port: number; pemCert: Uint8Array }>
>;

type ConformanceService = GenService<{
  unary: Method<"unary", UnaryRequest<"UnaryRequest">, Response<"UnaryResponse">>;
  idempotentUnary: Method<
    "unary",
    UnaryRequest<"IdempotentUnaryRequest">,
    Response<"IdempotentUnaryResponse">
  >;
  serverStream: Method<
    "server_streaming",
    StreamRequest<"ServerStreamRequest">,
    Response<"ServerStreamResponse">
  >;
  clientStream: Method<
    "client_streaming",
    UnaryRequest<"ClientStreamRequest">,
    Response<"ClientStreamResponse">
  >;
  bidiStream: Method<"bidi_streaming", StreamRequest<"BidiStreamRequest">, Response<"BidiStreamResponse">>;
}>;

export type Contract = ReturnType<typeof readContract>;

/** Reads the contract from a file that `buf build` wrote. */
export function readContract(file: string) {
  const registry = createFileRegistry(fromBinary(FileDescriptorSetSchema, readFileSync(file)));
  const message = (name: string): DescMessage => {
    const found = registry.getMessage(`${contract}.${name}`);
    if (found === undefined) throw new Error(`${file} has no message ${contract}.${name}`);
    return found;
  };
  const service = registry.getService(`${contract}.ConformanceService`);
  if (service === undefined) throw new Error(`${file} has no ${contract}.ConformanceService`);
  return {
    registry,
    service: service as unknown as ConformanceService,
    requestInfo: message("ConformancePayload.RequestInfo") as unknown as GenMessage<RequestInfo>,
    serverCompatRequest: message("ServerCompatRequest") as unknown as ServerCompatRequest,
    serverCompatResponse: message("ServerCompatResponse") as unknown as ServerCompatResponse,
  };
}

/** What a server's methods are, asked of the server itself: grpc.reflection, v1 or v1alpha. */
import { create, createFileRegistry, type FileRegistry, fromBinary } from "@bufbuild/protobuf";
import {
  type FileDescriptorProto,
  FileDescriptorProtoSchema,
  FileDescriptorSetSchema,
  file_google_protobuf_any,
  file_google_protobuf_api,
  file_google_protobuf_descriptor,
  file_google_protobuf_duration,
  file_google_protobuf_empty,
  file_google_protobuf_field_mask,
  file_google_protobuf_source_context,
  file_google_protobuf_struct,
  file_google_protobuf_timestamp,
  file_google_protobuf_type,
  file_google_protobuf_wrappers,
} from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, createClient, type Transport } from "@connectrpc/connect";
import {
  type ServerReflectionRequest,
  ServerReflectionRequestSchema,
  ServerReflection as V1,
} from "../gen/grpc/reflection/v1/reflection_pb.js";
import { ServerReflection as V1Alpha } from "../gen/grpc/reflection/v1alpha/reflection_pb.js";
import { mendDescriptors } from "./mend-descriptors.ts";

type Question = Exclude<ServerReflectionRequest["messageRequest"], { case: undefined }>;

export interface Reflection {
  /** Full names. */
  listServices(): Promise<string[]>;
  /** The files that a service is declared in; undefined: the server does not have it. */
  filesOf(service: string): Promise<FileRegistry | undefined>;
  close(): Promise<void>;
}

/** What servers may leave out, since every client has it. */
const wellKnown = new Map(
  [
    file_google_protobuf_any,
    file_google_protobuf_api,
    file_google_protobuf_descriptor,
    file_google_protobuf_duration,
    file_google_protobuf_empty,
    file_google_protobuf_field_mask,
    file_google_protobuf_source_context,
    file_google_protobuf_struct,
    file_google_protobuf_timestamp,
    file_google_protobuf_type,
    file_google_protobuf_wrappers,
  ].map((file) => [file.proto.name, file.proto]),
);

/** Opens a conversation; undefined where the server has no reflection, or not for this token. */
export async function openReflection(
  transport: Transport,
  timeoutMs: number,
): Promise<Reflection | undefined> {
  for (const service of [V1, V1Alpha] as const) {
    const conversation = converse(transport, service as typeof V1, timeoutMs);
    try {
      const services = await conversation.ask({ case: "listServices", value: "*" });
      if (services.case !== "listServicesResponse") throw unexpected(services);
      return reflectionOver(
        conversation,
        services.value.service.map(({ name }) => name),
      );
    } catch (error) {
      await conversation.close();
      const { code } = ConnectError.from(error);
      if (code !== Code.Unimplemented && code !== Code.PermissionDenied) throw error;
    }
  }
  return undefined;
}

type Conversation = ReturnType<typeof converse>;

/** Both versions have the same messages. Questions are answered one at a time. */
function converse(transport: Transport, service: typeof V1, timeoutMs: number) {
  const questions: ServerReflectionRequest[] = [];
  const abort = new AbortController();
  let wake: (() => void) | undefined;
  let ended = false;

  async function* requests() {
    while (!ended) {
      const next = questions.shift();
      if (next !== undefined) yield next;
      else {
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
    }
  }

  const answers = createClient(service, transport)
    .serverReflectionInfo(requests(), { timeoutMs, signal: abort.signal })
    [Symbol.asyncIterator]();
  return {
    async ask(question: Question) {
      questions.push(create(ServerReflectionRequestSchema, { messageRequest: question }));
      wake?.();
      const { value, done } = await answers.next();
      if (done) throw new ConnectError("the server ended its answer early", Code.DataLoss);
      return value.messageResponse;
    },
    async close() {
      ended = true;
      wake?.();
      abort.abort();
      // Connect stops the time that a call has only as its end is read.
      await answers.next().catch(() => {});
    },
  };
}

function unexpected(answer: Awaited<ReturnType<Conversation["ask"]>>): ConnectError {
  const said = answer.case === "errorResponse" ? answer.value.errorMessage : "an answer to another question";
  return new ConnectError(`the server's reflection says: ${said}`, Code.Internal);
}

function reflectionOver(conversation: Conversation, services: string[]): Reflection {
  const files = new Map<string, FileDescriptorProto>();

  /** Keeps the files of an answer. Returns the first, which is the one that was asked for. */
  async function load(question: Question): Promise<FileDescriptorProto | undefined> {
    const answer = await conversation.ask(question);
    if (answer.case === "errorResponse" && answer.value.errorCode === Code.NotFound) return undefined;
    if (answer.case !== "fileDescriptorResponse") throw unexpected(answer);
    const sent = answer.value.fileDescriptorProto.map((bytes) =>
      fromBinary(FileDescriptorProtoSchema, bytes),
    );
    for (const file of sent) files.set(file.name, file);
    return sent[0];
  }

  /** A file and all that it imports, each after what it imports itself. */
  async function withImports(
    file: FileDescriptorProto,
    done = new Set<string>(),
  ): Promise<FileDescriptorProto[]> {
    if (done.has(file.name)) return [];
    done.add(file.name);
    const sorted: FileDescriptorProto[] = [];
    for (const name of file.dependency) {
      const found =
        files.get(name) ?? (await load({ case: "fileByFilename", value: name })) ?? wellKnown.get(name);
      if (found === undefined)
        throw new ConnectError(`the server does not have its file ${name}`, Code.Internal);
      sorted.push(...(await withImports(found, done)));
    }
    return [...sorted, file];
  }

  return {
    listServices: async () => services,
    async filesOf(service) {
      const file = await load({ case: "fileContainingSymbol", value: service });
      if (file === undefined) return undefined;
      const all = await withImports(file);
      mendDescriptors(all);
      try {
        return createFileRegistry(create(FileDescriptorSetSchema, { file: all }));
      } catch (error) {
        throw new ConnectError(
          `the server describes ${service} wrongly: ${(error as Error).message}`,
          Code.Internal,
        );
      }
    },
    close: () => conversation.close(),
  };
}

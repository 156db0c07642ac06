/** grpc.reflection.v1 and v1alpha: lets a client without .proto files learn what is mounted. */
import { type DescFile, type DescService, toBinary } from "@bufbuild/protobuf";
import {
  type DescriptorProto,
  type EnumDescriptorProto,
  type FieldDescriptorProto,
  type FileDescriptorProto,
  FileDescriptorProtoSchema,
} from "@bufbuild/protobuf/wkt";
import { Code, type ConnectRouter } from "@connectrpc/connect";
import { ServerReflection as ServerReflectionV1 } from "../gen/grpc/reflection/v1/reflection_pb.js";
import { ServerReflection as ServerReflectionV1Alpha } from "../gen/grpc/reflection/v1alpha/reflection_pb.js";

/**
 * Creates the routes that describe these services, and the reflection services
 * themselves, in both versions of the protocol.
 *
 * Everything is indexed and serialised here, once; a request costs look-ups.
 * Throws where two services lie in different files of the same name, since no
 * client could hold both. What is not found, or not asked for rightly, is
 * answered with an error response and leaves the stream open.
 *
 * Source: https://github.com/grpc/grpc/blob/master/doc/server-reflection.md
 */
export function reflectionRoutes(services: readonly DescService[]): (router: ConnectRouter) => void {
  const schema = indexSchema([...services, ServerReflectionV1, ServerReflectionV1Alpha]);
  return (router) => {
    router.service(ServerReflectionV1, { serverReflectionInfo: (queries) => answerAll(schema, queries) });
    router.service(ServerReflectionV1Alpha, {
      serverReflectionInfo: (queries) => answerAll(schema, queries),
    });
  };
}

/** A request of either version: the two have the same fields. */
interface Query {
  host: string;
  messageRequest:
    | {
        case: "fileByFilename" | "fileContainingSymbol" | "allExtensionNumbersOfType" | "listServices";
        value: string;
      }
    | { case: "fileContainingExtension"; value: { containingType: string; extensionNumber: number } }
    | { case: undefined };
}

type Answer =
  | { case: "fileDescriptorResponse"; value: { fileDescriptorProto: Uint8Array[] } }
  | {
      case: "allExtensionNumbersResponse";
      value: { baseTypeName: string; extensionNumber: number[] };
    }
  | { case: "listServicesResponse"; value: { service: { name: string }[] } }
  | { case: "errorResponse"; value: { errorCode: Code; errorMessage: string } };

async function* answerAll<Q extends Query>(schema: Schema, queries: AsyncIterable<Q>) {
  const sent = new Set<ServedFile>();
  for await (const query of queries) {
    yield { validHost: query.host, originalRequest: query, messageResponse: answer(schema, query, sent) };
  }
}

function answer(schema: Schema, { messageRequest }: Query, sent: Set<ServedFile>): Answer {
  switch (messageRequest.case) {
    case "fileByFilename":
      return fileAnswer(schema.files.get(messageRequest.value), sent, "file", messageRequest.value);
    case "fileContainingSymbol":
      return fileAnswer(schema.symbols.get(messageRequest.value), sent, "symbol", messageRequest.value);
    case "fileContainingExtension": {
      const { containingType, extensionNumber } = messageRequest.value;
      const file = schema.extensions.get(containingType)?.get(extensionNumber);
      return fileAnswer(file, sent, `extension ${extensionNumber} of`, containingType);
    }
    case "allExtensionNumbersOfType": {
      const numbers = schema.extensions.get(messageRequest.value)?.keys();
      if (numbers === undefined) return notFound("message", messageRequest.value);
      return {
        case: "allExtensionNumbersResponse",
        value: { baseTypeName: messageRequest.value, extensionNumber: [...numbers].sort((a, b) => a - b) },
      };
    }
    case "listServices":
      return {
        case: "listServicesResponse",
        value: { service: schema.services.map((name) => ({ name })) },
      };
    case undefined:
      return {
        case: "errorResponse",
        value: { errorCode: Code.InvalidArgument, errorMessage: "no message_request is set" },
      };
  }
}

/**
 * The file, then those that it needs and that this stream was not sent yet. The
 * file itself comes every time: clients take the first one for what they asked for.
 */
function fileAnswer(file: ServedFile | undefined, sent: Set<ServedFile>, kind: string, name: string): Answer {
  if (file === undefined) return notFound(kind, name);
  const fresh = [...file.closure].filter((each) => each === file || !sent.has(each));
  for (const each of fresh) sent.add(each);
  return {
    case: "fileDescriptorResponse",
    value: { fileDescriptorProto: fresh.map((each) => each.bytes) },
  };
}

function notFound(kind: string, name: string): Answer {
  const errorMessage = `${kind} ${JSON.stringify(name.slice(0, 200))} not found`;
  return { case: "errorResponse", value: { errorCode: Code.NotFound, errorMessage } };
}

interface ServedFile {
  /** A serialised FileDescriptorProto. */
  readonly bytes: Uint8Array;
  readonly imports: readonly ServedFile[];
  /** The file itself, then all files that it imports, directly or not, each once, the nearest first. */
  readonly closure: ReadonlySet<ServedFile>;
}

interface Schema {
  /** Full names, sorted. */
  readonly services: readonly string[];
  readonly files: ReadonlyMap<string, ServedFile>;
  /** By full name, all that protobuf gives one. */
  readonly symbols: ReadonlyMap<string, ServedFile>;
  /** By message type, then by number. A message without extensions has an empty map. */
  readonly extensions: ReadonlyMap<string, ReadonlyMap<number, ServedFile>>;
}

function indexSchema(services: readonly DescService[]): Schema {
  const files = new Map<string, ServedFile>();
  const symbols = new Map<string, ServedFile>();
  const extensions = new Map<string, Map<number, ServedFile>>();

  function addFile({ proto, dependencies }: DescFile): ServedFile {
    const known = files.get(proto.name);
    if (known !== undefined) return known;
    const imports = dependencies.map(addFile);
    // Unknown fields are written too: custom options, as (latchkey.v1.access), are such.
    const bytes = toBinary(FileDescriptorProtoSchema, proto);
    const closure = new Set<ServedFile>();
    const file: ServedFile = { bytes, imports, closure };
    // A Set yields what is added while it is walked: breadth first.
    for (const each of closure.add(file)) for (const imported of each.imports) closure.add(imported);
    files.set(proto.name, file);
    for (const declared of declarations(proto)) {
      // Names are unique in one schema; where files from two disagree, the first stands.
      setOnce(symbols, declared.name, file);
      if (declared.kind === "message") setOnce(extensions, declared.name, new Map());
      if (declared.kind === "extension") {
        setOnce(extensions, declared.extendee, new Map());
        setOnce(extensions.get(declared.extendee)!, declared.number, file);
      }
    }
    return file;
  }

  for (const { file, typeName } of services) {
    addFile(file);
    if (!symbols.has(typeName)) {
      throw new Error(
        `cannot reflect ${typeName}: its file ${file.proto.name} has the name of another service's file`,
      );
    }
  }
  return { services: [...new Set(services.map((each) => each.typeName))].sort(), files, symbols, extensions };
}

function setOnce<K, V>(map: Map<K, V>, key: K, value: V): void {
  if (!map.has(key)) map.set(key, value);
}

type Declaration =
  | { kind: "message" | "other"; name: string }
  | { kind: "extension"; name: string; extendee: string; number: number };

/**
 * All that has a full name in a file. Read from the descriptor message, because
 * DescMessage hides map entries and the oneofs of proto3's `optional`.
 */
function* declarations(file: FileDescriptorProto): Generator<Declaration> {
  for (const message of file.messageType) yield* messageDeclarations(file.package, message);
  for (const enumeration of file.enumType) yield* enumDeclarations(file.package, enumeration);
  for (const extension of file.extension) yield extensionDeclaration(file.package, extension);
  for (const service of file.service) {
    const name = qualify(file.package, service.name);
    yield { kind: "other", name };
    for (const method of service.method) yield { kind: "other", name: qualify(name, method.name) };
  }
}

function* messageDeclarations(scope: string, message: DescriptorProto): Generator<Declaration> {
  const name = qualify(scope, message.name);
  yield { kind: "message", name };
  for (const member of [...message.field, ...message.oneofDecl]) {
    yield { kind: "other", name: qualify(name, member.name) };
  }
  for (const nested of message.nestedType) yield* messageDeclarations(name, nested);
  for (const enumeration of message.enumType) yield* enumDeclarations(name, enumeration);
  for (const extension of message.extension) yield extensionDeclaration(name, extension);
}

function* enumDeclarations(scope: string, enumeration: EnumDescriptorProto): Generator<Declaration> {
  yield { kind: "other", name: qualify(scope, enumeration.name) };
  // Values are siblings of their enum, as in C++: pkg.VALUE, not pkg.Enum.VALUE.
  for (const value of enumeration.value) yield { kind: "other", name: qualify(scope, value.name) };
}

function extensionDeclaration(scope: string, extension: FieldDescriptorProto): Declaration {
  return {
    kind: "extension",
    name: qualify(scope, extension.name),
    // Compilers write type names with a leading dot.
    extendee: extension.extendee.replace(/^\./, ""),
    number: extension.number,
  };
}

function qualify(scope: string, name: string): string {
  return scope === "" ? name : `${scope}.${name}`;
}

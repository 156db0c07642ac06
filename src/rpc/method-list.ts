/** The methods that are mounted, described for people and for programs that make their messages. */
import { readFile } from "node:fs/promises";
import {
  create,
  type DescFile,
  type DescMethod,
  type DescService,
  fromBinary,
  type MessageInitShape,
  toBinary,
} from "@bufbuild/protobuf";
import {
  type FileDescriptorProto,
  FileDescriptorProtoSchema,
  FileDescriptorSetSchema,
  MethodOptions_IdempotencyLevel,
  type SourceCodeInfo_Location,
  SourceCodeInfoSchema,
} from "@bufbuild/protobuf/wkt";
import type { AccessRequirement, Policy } from "../auth/policy.ts";
import { AccessLevel } from "../gen/latchkey/v1/access_pb.js";
import { MethodKind, type ServiceDescriptionSchema } from "../gen/latchkey/v1/server_service_pb.js";

/** What is said of the methods that a caller may see. */
export interface MethodList {
  readonly services: MessageInitShape<typeof ServiceDescriptionSchema>[];
  /** A serialised FileDescriptorSet, each file after those that it imports. */
  readonly fileDescriptorSet: Uint8Array;
}

export interface MethodLister {
  readonly methods: readonly DescMethod[];
  /** Lists those that the caller may call, or all of them, and says which are which. Services without any are left out. */
  list(callable: ReadonlySet<DescMethod>, all: boolean): MethodList;
}

/** Latchkey's own files with their comments, which generated code does not have; by name. */
export type Comments = ReadonlyMap<string, FileDescriptorProto>;

const levels: Readonly<Record<AccessRequirement, AccessLevel>> = {
  public: AccessLevel.PUBLIC,
  optional: AccessLevel.OPTIONAL,
  authenticated: AccessLevel.AUTHENTICATED,
  staff: AccessLevel.STAFF,
};
const kinds: Readonly<Record<DescMethod["methodKind"], MethodKind>> = {
  unary: MethodKind.UNARY,
  server_streaming: MethodKind.SERVER_STREAMING,
  client_streaming: MethodKind.CLIENT_STREAMING,
  bidi_streaming: MethodKind.BIDI_STREAMING,
};

/** Reads the descriptors that `npm run generate` puts beside the generated code. None: there are no comments then. */
export async function readComments(): Promise<Comments> {
  try {
    const bytes = await readFile(new URL("../gen/descriptors.binpb", import.meta.url));
    return new Map(fromBinary(FileDescriptorSetSchema, bytes).file.map((file) => [file.name, file]));
  } catch (error) {
    // Whoever ran buf alone has the code without them: no reason not to serve.
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return new Map();
    throw error;
  }
}

/**
 * Creates the list of these services. `own` are Latchkey's: of another's file of the
 * same name the comments would be wrong.
 */
export function createMethodLister(options: {
  services: readonly DescService[];
  own: ReadonlySet<DescService>;
  policy: Policy;
  comments: Comments;
}): MethodLister {
  const { policy } = options;
  const services = options.services.toSorted((a, b) => (a.typeName < b.typeName ? -1 : 1));
  const ownFiles = new Set([...options.own].map((service) => service.file.proto.name));
  const commented = new Map<DescFile, FileDescriptorProto>();

  function fileOf(file: DescFile): FileDescriptorProto {
    let proto = commented.get(file);
    if (proto === undefined) {
      const source = ownFiles.has(file.proto.name) ? options.comments.get(file.proto.name) : undefined;
      const location = source?.sourceCodeInfo?.location.filter(hasComment) ?? [];
      proto =
        location.length === 0
          ? file.proto
          : create(FileDescriptorProtoSchema, {
              ...file.proto,
              sourceCodeInfo: create(SourceCodeInfoSchema, { location }),
            });
      commented.set(file, proto);
    }
    return proto;
  }

  function commentAt(file: DescFile, path: readonly number[]): string {
    const location = fileOf(file).sourceCodeInfo?.location.find((each) => isAt(each, path));
    return location?.leadingComments.replace(/^ /gm, "").trim() ?? "";
  }

  return {
    methods: services.flatMap((service) => service.methods),
    list(callable, all) {
      const shown = services.flatMap((service) => {
        const visible = service.methods.filter((method) => all || callable.has(method));
        return visible.length === 0 ? [] : [{ service, visible }];
      });
      const files = new Set<DescFile>();
      const add = (file: DescFile) => {
        if (files.has(file)) return;
        for (const imported of file.dependencies) add(imported);
        files.add(file);
      };
      for (const { service } of shown) add(service.file);
      const file = [...files].map(fileOf);
      return {
        services: shown.map(({ service, visible }) => {
          const at = [servicesField, service.file.services.indexOf(service)];
          return {
            name: service.typeName,
            comment: commentAt(service.file, at),
            methods: visible.map((method) => ({
              name: method.name,
              comment: commentAt(service.file, [...at, methodsField, service.methods.indexOf(method)]),
              access: levels[policy.of(method)],
              kind: kinds[method.methodKind],
              safe: method.idempotency === MethodOptions_IdempotencyLevel.NO_SIDE_EFFECTS,
              inputType: method.input.typeName,
              outputType: method.output.typeName,
              callable: callable.has(method),
            })),
          };
        }),
        fileDescriptorSet: toBinary(FileDescriptorSetSchema, create(FileDescriptorSetSchema, { file })),
      };
    },
  };
}

/** Field numbers of FileDescriptorProto and ServiceDescriptorProto, of which a location's path is made. */
const servicesField = 6;
const methodsField = 2;

function hasComment(location: SourceCodeInfo_Location): boolean {
  return location.leadingComments !== "" || location.trailingComments !== "";
}

function isAt({ path }: SourceCodeInfo_Location, wanted: readonly number[]): boolean {
  return path.length === wanted.length && path.every((part, i) => part === wanted[i]);
}

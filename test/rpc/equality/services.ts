/** The services of equality.proto, compiled, with the types that a service author's generated code would have. */
import { execFileSync } from "node:child_process";
import { createFileRegistry, fromBinary, type JsonObject, type Message } from "@bufbuild/protobuf";
import type { GenMessage, GenService } from "@bufbuild/protobuf/codegenv2";
import { type Any, FileDescriptorSetSchema, type Timestamp } from "@bufbuild/protobuf/wkt";

export type Everything = Message<"test.equality.Everything"> & {
  text: string;
  big: bigint;
  data: Uint8Array;
  real: number;
  flag: boolean;
  list: string[];
  counts: Record<string, number>;
  kind: number;
  choice:
    | { case: "name"; value: string }
    | { case: "inner"; value: Everything }
    | { case: undefined; value?: undefined };
  maybe?: number;
  any?: Any;
  struct?: JsonObject;
  time?: Timestamp;
  wrapped?: bigint;
};

type Schema = GenMessage<Everything>;
type Unary = { methodKind: "unary"; input: Schema; output: Schema };
type Stream = { methodKind: "server_streaming"; input: Schema; output: Schema };

const config = JSON.stringify({ version: "v2", modules: [{ path: "proto" }, { path: "test/rpc/equality" }] });
const image = execFileSync(
  "node_modules/.bin/buf",
  ["build", ".", "--config", config, "--as-file-descriptor-set", "-o", "-"],
  { maxBuffer: 64 * 1024 * 1024 },
);

export const registry = createFileRegistry(fromBinary(FileDescriptorSetSchema, image));
export const EverythingSchema = registry.getMessage("test.equality.Everything") as unknown as Schema;
export const Echo = service("Echo") as unknown as GenService<{
  call: Unary;
  get: Unary;
  public: Unary;
  known: Unary;
  staff: Unary;
  missing: Unary;
  down: Stream;
}>;
type CallAndGet = GenService<{ call: Unary; get: Unary }>;
export const Intercepted = service("Intercepted") as unknown as CallAndGet;
export const Configured = service("Configured") as unknown as CallAndGet;

function service(name: string) {
  const found = registry.getService(`test.equality.${name}`);
  if (found === undefined) throw new Error(`equality.proto has no service ${name}`);
  return found;
}

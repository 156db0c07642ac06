/** What is mounted on this server, with the descriptors of its messages. */
import { createFileRegistry, fromBinary } from "@bufbuild/protobuf";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { useQuery } from "@connectrpc/connect-query";
import { useMemo } from "react";
import { ServerService } from "../../../gen/latchkey/v1/server_service_pb.js";

/** The server's services and methods, the header that carries a token, and so on; see ListMethodsResponse. */
export function useMethods() {
  return useQuery(ServerService.method.listMethods, {}, { staleTime: Number.POSITIVE_INFINITY });
}

/** The descriptors of all services that are mounted; undefined while they load. */
export function useRegistry() {
  const { data } = useMethods();
  const set = data?.fileDescriptorSet;
  return useMemo(
    () => (set === undefined ? undefined : createFileRegistry(fromBinary(FileDescriptorSetSchema, set))),
    [set],
  );
}

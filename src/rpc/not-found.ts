/** The answer to a path that is no method: `unimplemented`, in the words of the protocol that asked. */
import type { FastifyReply, FastifyRequest } from "fastify";

const unimplemented = 12;
const endOfStreamFlag = 2;

/** A hook that answers a request to no route before Fastify reads, parses and judges its body. */
export function answerUnknownRpc(req: FastifyRequest, reply: FastifyReply, done: () => void): void {
  if (req.is404 && req.method !== "OPTIONS") answerNotFound(req, reply);
  else done();
}

/** Fastify's handler for what no route takes. */
export function answerNotFound(req: FastifyRequest, reply: FastifyReply): FastifyReply {
  const type = req.headers["content-type"] ?? "";
  const path = req.url.split("?", 1)[0]?.slice(0, 200) ?? "";
  const message = `there is no method ${path}: check the service and method name, or list them by reflection`;
  if (/^application\/grpc([+;]|$)/.test(type)) return answerGrpc(reply, type, message);
  if (/^application\/grpc-web(-text)?([+;]|$)/.test(type)) {
    return reply.code(200).headers(grpcStatus(type, message)).send();
  }
  if (type.startsWith("application/connect+")) {
    // A stream tells its error in its last message (Connect protocol, "Streaming-Response").
    const end = Buffer.from(JSON.stringify({ error: { code: "unimplemented", message } }));
    const head = Buffer.from([endOfStreamFlag, 0, 0, 0, 0]);
    head.writeUInt32BE(end.length, 1);
    return reply
      .code(200)
      .header("content-type", bareType(type))
      .send(Buffer.concat([head, end]));
  }
  // Connect maps 404 to unimplemented.
  return reply.code(404).send({ code: "unimplemented", message });
}

/**
 * By trailers of their own. A trailers-only answer would need END_STREAM on its
 * headers, which Node's compatibility API sends on an empty DATA frame instead, and
 * gRPC's C core (Python, C++, Ruby …) then takes the status for lost.
 */
function answerGrpc(reply: FastifyReply, type: string, message: string): FastifyReply {
  const { "content-type": contentType, ...trailers } = grpcStatus(type, message);
  reply.hijack();
  for (const [name, value] of Object.entries(reply.getHeaders())) {
    if (value !== undefined) reply.raw.setHeader(name, value);
  }
  reply.raw.writeHead(200, { "content-type": contentType });
  reply.raw.addTrailers(trailers);
  reply.raw.end();
  return reply;
}

/** Without its parameters. */
function bareType(type: string): string {
  return (type.split(";", 1)[0] ?? "").trim();
}

function grpcStatus(type: string, message: string) {
  return {
    "content-type": bareType(type),
    "grpc-status": String(unimplemented),
    "grpc-message": encodeURI(message),
  };
}

/** The answer to a path that is no method: `unimplemented`, in the words of the protocol that asked. */
import type { FastifyReply, FastifyRequest } from "fastify";

const unimplemented = 12;

/** Fastify's handler for what no route takes. */
export function answerNotFound(req: FastifyRequest, reply: FastifyReply): FastifyReply {
  const type = req.headers["content-type"] ?? "";
  const path = req.url.split("?", 1)[0]?.slice(0, 200) ?? "";
  const message = `there is no method ${path}: check the service and method name, or list them by reflection`;
  if (/^application\/grpc(-web)?(-text)?([+;]|$)/.test(type)) {
    // Trailers-only: the status comes in the headers (gRPC over HTTP/2, "Responses").
    return reply
      .code(200)
      .header("content-type", type.split(";", 1)[0])
      .header("grpc-status", String(unimplemented))
      .header("grpc-message", encodeURIComponent(message))
      .send();
  }
  // Connect maps 404 to unimplemented.
  return reply.code(404).send({ code: "unimplemented", message });
}

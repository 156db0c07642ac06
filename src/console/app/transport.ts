/** How the console calls the server: gRPC-Web to its own origin, signed in by the session's cookie. */
import { Code, ConnectError, type Interceptor } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-web";
import { QueryClient } from "@tanstack/react-query";
import { SessionService } from "../../gen/latchkey/v1/session_service_pb.js";
import { markEnded, signedInAgain } from "./session/state.ts";

/** Holds a unary call whose session has ended until its user has signed in again, then sends it once more. */
const heldWhileSignedOut: Interceptor = (next) => async (request) => {
  if (request.service.typeName === SessionService.typeName) return next(request);
  if (request.stream) {
    const response = await next(request);
    return response.stream ? { ...response, message: noticingTheEnd(response.message) } : response;
  }
  for (;;) {
    try {
      return await next(request);
    } catch (error) {
      if (ConnectError.from(error).code !== Code.Unauthenticated) throw error;
      await signedInAgain(error, request.signal);
    }
  }
};

/** A stream cannot be gone on with: who reads it has to begin anew, signed in again. */
async function* noticingTheEnd<T>(messages: AsyncIterable<T>) {
  try {
    yield* messages;
  } catch (error) {
    if (ConnectError.from(error).code === Code.Unauthenticated) markEnded();
    throw error;
  }
}

export const transport = createGrpcWebTransport({
  baseUrl: window.location.origin,
  interceptors: [heldWhileSignedOut],
});

export const queryClient = new QueryClient({
  defaultOptions: {
    queries: {
      staleTime: 5_000,
      retry: (failures, error) => ConnectError.from(error).code === Code.Unavailable && failures < 2,
    },
  },
});

/**
 * Forward auth: the verdict over plain HTTP, for proxies that ask about each
 * request by a request of their own: nginx (`auth_request`), Traefik
 * (`forwardAuth`), Caddy (`forward_auth`).
 */
import { Code, ConnectError } from "@connectrpc/connect";
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { ErrorInfoSchema } from "../gen/google/rpc/error_details_pb.js";
import { isInRanges, parseAddress, parseAddressRange } from "./address-range.ts";
import { cannotCount } from "./call.ts";
import { ambiguous, createNameLedger } from "./called-method.ts";
import { clientAddress, readCalledMethod, readHeaders } from "./forwarded-request.ts";
import { identityHeaders } from "./identity-headers.ts";
import { createInquire, type InquiryOptions, verifyMethod } from "./inquiry.ts";
import { noMethod } from "./method-name.ts";
import { mayNotVerify } from "./principal.ts";
import { isGrpcType, refusalResponse } from "./refusal-response.ts";
import type { SentHeaders } from "./sent-headers.ts";
import { readTraceId } from "./traceparent.ts";

export interface ForwardAuthOptions extends InquiryOptions {
  /** E.g. "/auth". */
  path: string;
  /** Addresses and CIDR blocks of the proxies that may ask without a key. */
  trustedProxies: readonly string[];
  /** Requests that are decided at once; more are answered 503. */
  maxConcurrent: number;
}

/** Carries the proxy's own key: the header for tokens carries the caller's. */
const proxyKeyHeader = "x-proxy-api-key";

/**
 * Mounts the endpoint, for every HTTP method.
 *
 * It answers 200 with the identity headers, or 401 or 403 with `www-authenticate`,
 * `x-latchkey-reason`, the error as JSON (in the body and, for proxies that do not
 * pass on a body, in `x-latchkey-error`) and gRPC's `grpc-status` and
 * `grpc-message`; without the body where the caller speaks gRPC. 503: there is no verdict, and the body says why. A proxy that may
 * not ask is told that, and nothing of the request that it asks about.
 *
 * Headers are the caller's own where a proxy passes them on. So those that tell of
 * the request must agree where there are several, and what names the service comes
 * in the query, which only the proxy's configuration writes.
 */
export function mountForwardAuth(app: FastifyInstance, options: ForwardAuthOptions): void {
  const { policy, recorder } = options;
  const inquire = createInquire(options);
  const loggedMethod = createNameLedger(policy.knows);
  const trusted = options.trustedProxies
    .map((text) => parseAddressRange(text))
    .filter((range) => range !== undefined);
  const isTrusted = (address: string | undefined) => address !== undefined && isInRanges(trusted, address);
  let running = 0;

  /** Throws `unavailable` for one who may not ask. */
  async function admit(sent: SentHeaders, socketAddress: string | undefined): Promise<void> {
    if (isTrusted(socketAddress)) return;
    if (!recorder.accepts(verifyMethod)) throw cannotCount();
    const { error, counted } = await inquire({
      question: {
        method: verifyMethod,
        access: policy.named(verifyMethod),
        credential: options.readCredential((name) =>
          name === options.apiKeyHeader ? sent.get(proxyKeyHeader) : undefined,
        ),
        peerAddress: socketAddress,
      },
      protocol: "forward_auth",
      requestId: sent.get("x-request-id"),
      userAgent: "",
      traceId: readTraceId((name) => sent.get(name)),
      refuse: ({ principal }) => (principal?.canVerify ? undefined : mayNotVerify()),
    });
    if ((await counted) === false) throw cannotCount();
    if (error === undefined) return;
    throw noVerdict(
      sent.has(proxyKeyHeader)
        ? `this proxy's ${proxyKeyHeader} may not ask for verdicts: ${error.rawMessage}`
        : `this proxy may not ask for verdicts: name its address in LATCHKEY_TRUSTED_PROXIES, or let it send an API key with can_verify as ${proxyKeyHeader}`,
    );
  }

  async function answer(req: FastifyRequest, reply: FastifyReply): Promise<void> {
    const sent = readHeaders(req.raw.rawHeaders);
    await admit(sent, parseAddress(req.socket.remoteAddress ?? ""));
    const called = readCalledMethod(sent, req.query as Record<string, unknown>);
    if (called === "untold" || called === "bad_name") throw noVerdict(misconfigurations[called]);
    const method = called === "ambiguous" ? noMethod : called;
    if (!recorder.accepts(method)) throw cannotCount();
    const { verdict, error, counted } = await inquire({
      question: {
        method,
        access: policy.named(method),
        credential: options.readCredential((name) => sent.get(name)),
        peerAddress: clientAddress(sent.get("x-forwarded-for"), isTrusted),
      },
      protocol: "forward_auth",
      requestId: sent.get("x-request-id"),
      userAgent: sent.get("user-agent"),
      traceId: readTraceId((name) => sent.get(name)),
      loggedMethod,
      refuse: () => (called === "ambiguous" ? ambiguous() : undefined),
    });
    if ((await counted) === false) throw cannotCount();
    if (error !== undefined) throw error;
    reply.headers(identityHeaders(verdict.principal)).send();
  }

  app.register(async (scope) => {
    scope.removeAllContentTypeParsers();
    scope.addContentTypeParser("*", (_req, _payload, done) => done(null));
    scope.all(options.path, async (req, reply) => {
      reply.header("cache-control", "no-store");
      running++;
      try {
        if (running > options.maxConcurrent) throw noVerdict("too many requests at once: try again");
        await answer(req, reply);
      } catch (error) {
        // Fastify would tell the caller what went wrong here.
        if (!(error instanceof ConnectError)) req.log.error({ err: error }, "forward auth failed");
        const told =
          error instanceof ConnectError ? error : new ConnectError("internal error", Code.Internal);
        refuse(reply, told, isGrpcType(req.headers["content-type"]));
      } finally {
        running--;
      }
      return reply;
    });
  });
}

const misconfigurations = {
  untold:
    "this proxy tells nothing of the request: let it send its path and query as x-original-uri, and its HTTP method as x-original-method",
  bad_name:
    "the query must name a service like billing or billing.v1.InvoiceService, and with it a method like Pay or none",
};

/** Not the caller's fault, who must not be told that it was refused: there is no verdict. */
function noVerdict(message: string): ConnectError {
  return new ConnectError(message, Code.Unavailable);
}

/**
 * Where a gRPC caller is the one to read it, there is no body: its client takes the
 * status from a response that ends with its headers, and for lost from any other.
 */
function refuse(reply: FastifyReply, error: ConnectError, isGrpc: boolean): void {
  const { status, json, trailers, challenge } = refusalResponse(error);
  const reason = error.findDetails(ErrorInfoSchema)[0]?.reason;
  reply
    .code(status)
    .headers({
      ...Object.fromEntries(trailers),
      "content-type": isGrpc ? "application/grpc" : "application/json",
      "x-latchkey-error": json,
      ...(reason !== undefined && { "x-latchkey-reason": reason }),
      ...(challenge !== undefined && { "www-authenticate": challenge }),
    })
    .send(isGrpc ? "" : json);
}

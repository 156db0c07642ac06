/**
 * `envoy.service.auth.v3.Authorization`: the verdict for whatever stands behind
 * Envoy, or behind another gateway that speaks its ext_authz protocol.
 */
import type { MessageInitShape } from "@bufbuild/protobuf";
import { Code, ConnectError, type HandlerContext, type ServiceImpl } from "@connectrpc/connect";
import { codeToString } from "@connectrpc/connect/protocol-connect";
import {
  HeaderValueOption_HeaderAppendAction as HeaderAppendAction,
  type HeaderValueOptionSchema,
} from "../gen/envoy/config/core/v3/base_pb.js";
import type {
  AttributeContext,
  AttributeContext_Peer,
} from "../gen/envoy/service/auth/v3/attribute_context_pb.js";
import type { Authorization, CheckResponseSchema } from "../gen/envoy/service/auth/v3/external_auth_pb.js";
import type { StatusCode } from "../gen/envoy/type/v3/http_status_pb.js";
import { parseAddress } from "./address-range.ts";
import { callKey, cannotCount } from "./call.ts";
import { ambiguous, type CalledMethod, calledMethod, createNameLedger } from "./called-method.ts";
import { headersToRemove, identityHeaders } from "./identity-headers.ts";
import { createInquire, type InquiryOptions } from "./inquiry.ts";
import { noMethod } from "./method-name.ts";
import { requireVerifier } from "./principal.ts";
import { isGrpcType, refusalResponse } from "./refusal-response.ts";
import { joinHeaders, type SentHeaders } from "./sent-headers.ts";
import { withoutSessions } from "./session-cookie.ts";
import { readTraceId } from "./traceparent.ts";
import type { Verdict } from "./verdict.ts";

type CheckResponse = MessageInitShape<typeof CheckResponseSchema>;

/**
 * Creates the service. Who may ask is who may ask VerifyApiKey. A refusal is an
 * answer; what fails the RPC itself (`invalid_argument` for a proxy that is
 * configured wrongly, `permission_denied` for one that may not ask), Envoy answers
 * as its `status_on_error` says. May be called concurrently.
 */
export function createExtAuthz(options: InquiryOptions): ServiceImpl<typeof Authorization> {
  const { apiKeyHeader, policy, recorder } = options;
  const inquire = createInquire(options);
  const loggedMethod = createNameLedger(policy.knows);

  return {
    async check({ attributes }, context: HandlerContext): Promise<CheckResponse> {
      requireVerifier(context);
      const http = attributes?.request?.http;
      if (attributes === undefined || http === undefined) {
        throw new ConnectError(
          "attributes.request.http is missing: ask for HTTP requests",
          Code.InvalidArgument,
        );
      }
      const sent = readHeaders(http);
      const isGrpc = isGrpcType(sent.get("content-type"));
      const called = readMethod(attributes, http.path, http.method);
      const method = called === "ambiguous" ? noMethod : called;
      if (!recorder.accepts(method)) return refuse(cannotCount(), isGrpc);
      const { verdict, error, counted } = await inquire({
        question: {
          method,
          access: policy.named(method),
          credential: options.readCredential((name) => sent.get(name)),
          peerAddress: addressOf(attributes.source),
        },
        protocol: "ext_authz",
        requestId: sent.get("x-request-id") ?? context.values.get(callKey)?.requestId,
        userAgent: sent.get("user-agent"),
        traceId: readTraceId((name) => sent.get(name)) ?? context.values.get(callKey)?.traceId,
        loggedMethod,
        refuse: () => (called === "ambiguous" ? ambiguous() : undefined),
      });
      if ((await counted) === false) return refuse(cannotCount(), isGrpc);
      const dynamicMetadata = describe(verdict, error);
      if (error !== undefined) return { ...refuse(error, isGrpc), dynamicMetadata };
      const identity = identityHeaders(verdict.principal);
      const cookies = cookiesOf(sent);
      return {
        status: { code: 0 },
        httpResponse: {
          case: "okResponse",
          value: {
            headers: Object.entries({ ...identity, ...cookies }).map(([key, value]) => overwrite(key, value)),
            headersToRemove: headersToRemove(sent, identity, apiKeyHeader),
          },
        },
        dynamicMetadata,
      };
    },
  };
}

/** Throws `invalid_argument` for names that are none. */
function readMethod(
  { contextExtensions }: AttributeContext,
  target: string,
  verb: string,
): Exclude<CalledMethod, "bad_name"> {
  const called = calledMethod({
    target,
    verb,
    namedService: contextExtensions.service ?? "",
    namedMethod: contextExtensions.method ?? "",
  });
  if (called !== "bad_name") return called;
  throw new ConnectError(
    "context_extensions must name a service like billing or billing.v1.InvoiceService, and with it a method like Pay or none",
    Code.InvalidArgument,
  );
}

/** Envoy has joined what came several times, unless it is told to send raw headers. */
function readHeaders(http: NonNullable<NonNullable<AttributeContext["request"]>["http"]>): SentHeaders {
  const raw = (http.headerMap?.headers ?? []).map(
    ({ key, value, rawValue }) =>
      [key, rawValue.length > 0 ? Buffer.from(rawValue).toString("latin1") : value] as const,
  );
  return joinHeaders([...Object.entries(http.headers), ...raw]);
}

/** The address that Envoy says the request came from; undefined where it is none, as for a socket of the file system. */
function addressOf(source: AttributeContext_Peer | undefined): string | undefined {
  const address = source?.address?.address;
  return address?.case === "socketAddress" ? parseAddress(address.value.address) : undefined;
}

/** The cookies that go on to the server behind, where those are not as they came. */
function cookiesOf(sent: SentHeaders): { cookie?: string } {
  const sentCookies = sent.get("cookie") ?? "";
  const cookie = withoutSessions(sentCookies);
  return cookie === undefined || cookie === sentCookies ? {} : { cookie };
}

/** For filters behind this one and for Envoy's own access log. */
function describe(verdict: Verdict, error: ConnectError | undefined) {
  const { denial, principal, credentialKind } = verdict;
  return {
    code: error === undefined ? "ok" : codeToString(error.code),
    credential_kind: credentialKind,
    ...(denial !== undefined && { denial_reason: denial }),
    ...(principal !== undefined && {
      user_id: String(principal.userId),
      username: principal.username,
      is_staff: principal.isStaff,
      api_key_id: principal.apiKeyId ?? "",
    }),
  };
}

function refuse(error: ConnectError, isGrpc: boolean): CheckResponse {
  const { status, json, trailers, challenge } = refusalResponse(error);
  const headers: [string, string | undefined][] = [["www-authenticate", challenge]];
  // Envoy makes grpc-status and grpc-message of the status and the body.
  if (isGrpc) headers.push(["grpc-status-details-bin", trailers.get("grpc-status-details-bin") ?? undefined]);
  else headers.push(["content-type", "application/json"]);
  return {
    status: { code: error.code, message: error.rawMessage },
    httpResponse: {
      case: "deniedResponse",
      value: {
        status: { code: status as StatusCode },
        headers: headers.flatMap(([key, value]) => (value === undefined ? [] : [overwrite(key, value)])),
        body: isGrpc ? error.rawMessage : json,
      },
    },
  };
}

function overwrite(key: string, value: string): MessageInitShape<typeof HeaderValueOptionSchema> {
  return { header: { key, value }, appendAction: HeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD };
}

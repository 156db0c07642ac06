/** `latchkey.v1.ApiKeyService`, its verdicts: for gateways, and for services in other languages. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import type { HandlerContext, ServiceImpl } from "@connectrpc/connect";
import { codeToString } from "@connectrpc/connect/protocol-connect";
import { parseAddress } from "../auth/address-range.ts";
import { callKey, cannotCount } from "../auth/call.ts";
import { type Conclusion, createInquire, type Inquiry, type InquiryOptions } from "../auth/inquiry.ts";
import { type MethodName, noMethod, parseMethodName } from "../auth/method-name.ts";
import { type Principal, requireVerifier } from "../auth/principal.ts";
import type { Question } from "../auth/verdict.ts";
import type {
  ApiKeyService,
  ApiKeyVerdictSchema,
  VerifiedPrincipalSchema,
  VerifyApiKeyRequest,
} from "../gen/latchkey/v1/api_key_service_pb.js";
import { CredentialKind, DenialReason } from "../gen/latchkey/v1/verdict_pb.js";
import { invalid } from "../rpc/validate.ts";

/** What a request asks. */
type Asked = Pick<Inquiry, "question" | "skipUsage">;

const mostRequests = 100;
/** Look-ups of one call at once: far fewer than the cache takes, so that many calls do not shut each other out. */
const lookupConcurrency = 16;

const kinds = {
  api_key: CredentialKind.API_KEY,
  secret_key: CredentialKind.SECRET_KEY,
  session: CredentialKind.SESSION,
} as const satisfies Record<Principal["credentialKind"], CredentialKind>;

/** How a caller signed in, as a message says it. */
export function principalKind(kind: Principal["credentialKind"]): CredentialKind {
  return kinds[kind];
}

/** Creates the methods that ask for verdicts. They need no database in the steady state, as the server itself needs none. */
export function createVerification(
  options: InquiryOptions,
): Pick<ServiceImpl<typeof ApiKeyService>, "verifyApiKey" | "batchVerifyApiKeys"> {
  const { apiKeyHeader, recorder } = options;
  const inquire = createInquire(options);

  /** Reads a request; `at` stands before the names of its fields in what is said of them. */
  function read({ token, method, address, skipUsage }: VerifyApiKeyRequest, at: string): Asked {
    const name = method === "" ? noMethod : readMethod(`${at}method`, method);
    const question: Question = {
      method: name,
      access: name === noMethod ? "authenticated" : options.policy.named(name),
      // An empty token is what a gateway has of a caller who sent none.
      credential: options.readCredential((header) =>
        header === apiKeyHeader && token !== "" ? token : undefined,
      ),
      peerAddress: address === "" ? undefined : readAddress(`${at}address`, address),
    };
    return { question, skipUsage };
  }

  /**
   * Decides each, and counts it as a call of its own. Answers where all are
   * counted that must be before they are answered; else throws `unavailable`.
   */
  async function verify(inquiries: readonly Asked[], context: HandlerContext) {
    for (const { question, skipUsage } of inquiries) {
      if (!skipUsage && !recorder.accepts(question.method)) throw cannotCount();
    }
    const { requestId, traceId } = context.values.get(callKey) ?? {};
    const verdicts: MessageInitShape<typeof ApiKeyVerdictSchema>[] = [];
    const counted: (Promise<boolean> | undefined)[] = [];
    const queue = inquiries.entries();
    const work = async () => {
      for (const [i, asked] of queue) {
        const conclusion = await inquire({ ...asked, protocol: "verify", requestId, traceId, userAgent: "" });
        verdicts[i] = tell(conclusion);
        counted.push(conclusion.counted);
      }
    };
    await Promise.all(Array.from({ length: Math.min(lookupConcurrency, inquiries.length) }, work));
    if ((await Promise.all(counted)).includes(false)) throw cannotCount();
    return verdicts;
  }

  return {
    async verifyApiKey(request, context) {
      requireVerifier(context);
      const [verdict] = await verify([read(request, "")], context);
      return verdict === undefined ? {} : { verdict };
    },

    async batchVerifyApiKeys({ requests }, context) {
      requireVerifier(context);
      if (requests.length > mostRequests) {
        throw invalid(
          `requests must have at most ${mostRequests} items, not ${requests.length}: send several`,
        );
      }
      const inquiries = requests.map((request, i) => read(request, `requests[${i}].`));
      return { verdicts: await verify(inquiries, context) };
    },
  };
}

/** A verdict as the one who asked is told it. */
function tell({ verdict, error }: Conclusion): MessageInitShape<typeof ApiKeyVerdictSchema> {
  const { denial, deniedSinceMs, principal } = verdict;
  return {
    allowed: error === undefined,
    denialReason: denial === undefined ? DenialReason.UNSPECIFIED : DenialReason[denial],
    code: error === undefined ? "ok" : codeToString(error.code),
    message: error?.rawMessage ?? "",
    ...(deniedSinceMs !== undefined && { deniedSince: timestampFromMs(deniedSinceMs) }),
    ...(principal && { principal: tellPrincipal(principal) }),
  };
}

function tellPrincipal(principal: Principal): MessageInitShape<typeof VerifiedPrincipalSchema> {
  const { userId, username, isStaff, credentialKind, apiKeyId } = principal;
  return {
    userId,
    username,
    isStaff,
    credentialKind: principalKind(credentialKind),
    apiKeyId: apiKeyId ?? "",
  };
}

/** Says nothing of what was sent: it may be a token in the wrong field. */
function readMethod(field: string, text: string): MethodName {
  const method = parseMethodName(text);
  if (method === undefined) {
    throw invalid(`${field} must be a method like api.users.UserService/GetUser, or empty`);
  }
  return method;
}

function readAddress(field: string, text: string): string {
  const address = parseAddress(text);
  if (address === undefined) throw invalid(`${field} must be an IP address like 203.0.113.7, or empty`);
  return address;
}

/** `latchkey.v1.ApiKeyService`, its verdicts: for gateways, and for services in other languages. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import type { HandlerContext, ServiceImpl } from "@connectrpc/connect";
import { codeToString } from "@connectrpc/connect/protocol-connect";
import { parseAddress } from "../auth/address-range.ts";
import { beginCall, type CallRecorder, callKey, cannotCount, endCall } from "../auth/call.ts";
import type { Credential, ReadHeader } from "../auth/credential.ts";
import { denialCode, denialMessage } from "../auth/denial.ts";
import type { MethodName } from "../auth/method-name.ts";
import type { Policy } from "../auth/policy.ts";
import { type Principal, requireVerifier } from "../auth/principal.ts";
import type { Decide, Question, Verdict } from "../auth/verdict.ts";
import type {
  ApiKeyService,
  ApiKeyVerdictSchema,
  VerifiedPrincipalSchema,
  VerifyApiKeyRequest,
} from "../gen/latchkey/v1/api_key_service_pb.js";
import { CredentialKind, DenialReason } from "../gen/latchkey/v1/verdict_pb.js";
import { invalid } from "../rpc/validate.ts";

export interface VerificationOptions {
  decide: Decide;
  policy: Policy;
  readCredential: (header: ReadHeader) => Credential;
  /** Lower case. */
  apiKeyHeader: string;
  recorder: CallRecorder;
}

/** One verdict that is asked for. */
interface Inquiry {
  readonly question: Question;
  /** Neither count nor log it. */
  readonly skipUsage: boolean;
}

const mostRequests = 100;
/** Look-ups of one call at once: far fewer than the cache takes, so that many calls do not shut each other out. */
const lookupConcurrency = 16;
const mostMethodLength = 512;
const methodPattern = /^\/?((?:[a-z_]\w*\.)*[a-z_]\w*)\/([a-z_]\w*)$/i;
const noMethod: MethodName = { service: "", name: "" };

const kinds: Readonly<Record<Principal["credentialKind"], CredentialKind>> = {
  api_key: CredentialKind.API_KEY,
  secret_key: CredentialKind.SECRET_KEY,
};

/** Creates the methods that ask for verdicts. They need no database in the steady state, as the server itself needs none. */
export function createVerification(
  options: VerificationOptions,
): Pick<ServiceImpl<typeof ApiKeyService>, "verifyApiKey" | "batchVerifyApiKeys"> {
  const { apiKeyHeader, recorder } = options;

  /** Reads a request; `at` stands before the names of its fields in what is said of them. */
  function inquire({ token, method, address, skipUsage }: VerifyApiKeyRequest, at: string): Inquiry {
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
  async function verify(inquiries: readonly Inquiry[], context: HandlerContext) {
    for (const { question, skipUsage } of inquiries) {
      if (!skipUsage && !recorder.accepts(question.method)) throw cannotCount();
    }
    const { requestId, traceId } = context.values.get(callKey) ?? {};
    const verdicts: MessageInitShape<typeof ApiKeyVerdictSchema>[] = [];
    const counted: Promise<boolean>[] = [];
    const queue = inquiries.entries();
    const work = async () => {
      for (const [i, { question, skipUsage }] of queue) {
        const { method, peerAddress } = question;
        const call = beginCall({
          method,
          protocol: "verify",
          requestId,
          userAgent: "",
          peerAddress,
          traceId,
        });
        const verdict = await options.decide(question);
        const told = tell(verdict, apiKeyHeader);
        verdicts[i] = told.message;
        if (skipUsage) continue;
        call.verdict = verdict;
        const bytes = { requestBytes: undefined, responseBytes: undefined };
        const committed = recorder.record(endCall(call, { ...told.end, ...bytes }));
        // Caught here: what fails while others are still looked up must not go uncaught.
        if (committed !== undefined)
          counted.push(
            committed.then(
              () => true,
              () => false,
            ),
          );
      }
    };
    await Promise.all(Array.from({ length: Math.min(lookupConcurrency, inquiries.length) }, work));
    if ((await Promise.all(counted)).includes(false)) throw cannotCount();
    return verdicts;
  }

  return {
    async verifyApiKey(request, context) {
      requireVerifier(context);
      const [verdict] = await verify([inquire(request, "")], context);
      return verdict === undefined ? {} : { verdict };
    },

    async batchVerifyApiKeys({ requests }, context) {
      requireVerifier(context);
      if (requests.length > mostRequests) {
        throw invalid(
          `requests must have at most ${mostRequests} items, not ${requests.length}: send several`,
        );
      }
      const inquiries = requests.map((request, i) => inquire(request, `requests[${i}].`));
      return { verdicts: await verify(inquiries, context) };
    },
  };
}

/** A verdict as the one who asked is told it, and how the call ended for the request log. */
function tell(verdict: Verdict, apiKeyHeader: string) {
  const { denial, deniedSinceMs, principal } = verdict;
  const code = denial === undefined ? 0 : denialCode(denial);
  const message = denial === undefined ? "" : denialMessage({ ...verdict, denial }, apiKeyHeader);
  return {
    message: {
      allowed: denial === undefined,
      denialReason: denial === undefined ? DenialReason.UNSPECIFIED : DenialReason[denial],
      code: code === 0 ? "ok" : codeToString(code),
      message,
      ...(deniedSinceMs !== undefined && { deniedSince: timestampFromMs(deniedSinceMs) }),
      ...(principal && { principal: tellPrincipal(principal) }),
    } satisfies MessageInitShape<typeof ApiKeyVerdictSchema>,
    end: { code, errorMessage: message || undefined },
  };
}

function tellPrincipal(principal: Principal): MessageInitShape<typeof VerifiedPrincipalSchema> {
  const { userId, username, isStaff, credentialKind, apiKeyId } = principal;
  return { userId, username, isStaff, credentialKind: kinds[credentialKind], apiKeyId: apiKeyId ?? "" };
}

/** Says nothing of what was sent: it may be a token in the wrong field. */
function readMethod(field: string, text: string): MethodName {
  const [, service, name] = text.length > mostMethodLength ? [] : (text.match(methodPattern) ?? []);
  if (service === undefined || name === undefined) {
    throw invalid(`${field} must be a method like api.users.UserService/GetUser, or empty`);
  }
  return { service, name };
}

function readAddress(field: string, text: string): string {
  const address = parseAddress(text);
  if (address === undefined) throw invalid(`${field} must be an IP address like 203.0.113.7, or empty`);
  return address;
}

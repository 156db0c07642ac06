/** Verdicts that are asked for on another server's behalf: each decided, and counted as a call of its own. */
import type { ConnectError } from "@connectrpc/connect";
import { beginCall, type CallRecorder, endCall } from "./call.ts";
import type { Credential } from "./credential.ts";
import { denialError } from "./denial.ts";
import type { MethodName } from "./method-name.ts";
import type { Policy } from "./policy.ts";
import type { ReadHeader } from "./read-header.ts";
import type { Decide, Question, Verdict } from "./verdict.ts";

/** What asking is a call of, whichever way is taken: a key that may not call it may not ask. */
export const verifyMethod: MethodName = { service: "latchkey.v1.ApiKeyService", name: "VerifyApiKey" };

/** What every entrance that asks for others needs. */
export interface InquiryOptions {
  decide: Decide;
  policy: Policy;
  /** Without sessions: a browser's cookie belongs to this server's own pages. */
  readCredential: (header: ReadHeader) => Credential;
  recorder: CallRecorder;
  /** Lower case. */
  apiKeyHeader: string;
}

/** One verdict that is asked for. */
export interface Inquiry {
  readonly question: Question;
  /** How it is asked for: "verify", "ext_authz" or "forward_auth". */
  readonly protocol: string;
  readonly requestId: string | null | undefined;
  readonly userAgent: string | null | undefined;
  /** The trace that it belongs to, 32 hexadecimal digits; undefined: none that is known. */
  readonly traceId?: string | undefined;
  /** Neither count nor log it. */
  readonly skipUsage?: boolean;
  /** The name that it is logged under; default: the one asked about. */
  readonly loggedMethod?: (method: MethodName, verdict: Verdict) => MethodName;
  /** What refuses it where the verdict does not. */
  readonly refuse?: (verdict: Verdict) => ConnectError | undefined;
}

export interface Conclusion {
  readonly verdict: Verdict;
  /** The refusal, as the caller is to be told it; undefined: the call may go on. */
  readonly error: ConnectError | undefined;
  /**
   * Undefined where nothing has to be waited for; else resolves once the call is
   * committed, or with false where it could not be: the answer is then
   * `cannotCount`. Never rejects.
   */
  readonly counted: Promise<boolean> | undefined;
}

/** Decides. May be called concurrently. Not for a method whose calls the recorder does not accept. */
export type Inquire = (inquiry: Inquiry) => Promise<Conclusion>;

export function createInquire(
  options: Pick<InquiryOptions, "decide" | "recorder" | "apiKeyHeader">,
): Inquire {
  const { recorder } = options;

  return async (inquiry) => {
    const { question, protocol, requestId, userAgent, traceId } = inquiry;
    const { method, peerAddress } = question;
    const call = beginCall({ method, protocol, requestId, userAgent, peerAddress, traceId });
    const verdict = await options.decide(question);
    const { denial } = verdict;
    const error =
      denial === undefined
        ? inquiry.refuse?.(verdict)
        : denialError({ ...verdict, denial }, options.apiKeyHeader);
    if (inquiry.skipUsage) return { verdict, error, counted: undefined };
    call.verdict = verdict;
    const logged = inquiry.loggedMethod?.(method, verdict) ?? method;
    const committed = recorder.record(
      endCall(logged === method ? call : { ...call, method: logged }, {
        code: error?.code ?? 0,
        errorMessage: error?.rawMessage,
        requestBytes: undefined,
        responseBytes: undefined,
      }),
    );
    const counted = committed?.then(
      () => true,
      () => false,
    );
    return { verdict, error, counted };
  };
}

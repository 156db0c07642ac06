/** Credential, verdict and context values together: what gate and interceptor share. */
import type { DescMethod } from "@bufbuild/protobuf";
import {
  type ConnectError,
  type ContextKey,
  type ContextValues,
  createContextKey,
} from "@connectrpc/connect";
import { callKey } from "./call.ts";
import type { Credential, ReadHeader } from "./credential.ts";
import { denialError } from "./denial.ts";
import { principalKey } from "./principal.ts";
import type { Decide, Verdict } from "./verdict.ts";

/** A verdict, and the credential that it can be asked for again with. */
export interface Authorization {
  readonly credential: Credential;
  readonly verdict: Verdict;
  /** Undefined: the RPC may go on. */
  readonly error: ConnectError | undefined;
}

/** Where the gate leaves what the interceptor takes up. */
export const authorizationKey: ContextKey<Authorization | undefined> = createContextKey<
  Authorization | undefined
>(undefined, { description: "latchkey authorization" });

export interface Authorizer {
  /**
   * Reads the credential of an RPC, decides, and puts the outcome into the context
   * values. Answers without a promise when the grant is in memory. Does not throw:
   * a refusal is the error inside.
   */
  authorize(
    method: DescMethod,
    header: ReadHeader,
    values: ContextValues,
  ): Authorization | Promise<Authorization>;
  /**
   * Decides again, after the gate: while the body came in, the credential may have
   * ended. Puts the outcome into the context values as `authorize` does.
   */
  reauthorize(
    method: DescMethod,
    credential: Credential,
    values: ContextValues,
  ): Authorization | Promise<Authorization>;
  /** Decides again, for an RPC that is still running. */
  recheck(method: DescMethod, credential: Credential): Authorization | Promise<Authorization>;
}

export function createAuthorizer(options: {
  decide: Decide;
  readCredential: (header: ReadHeader) => Credential;
  apiKeyHeader: string;
}): Authorizer {
  function conclude(credential: Credential, verdict: Verdict): Authorization {
    const { denial } = verdict;
    const error =
      denial === undefined ? undefined : denialError({ ...verdict, denial }, options.apiKeyHeader);
    return { credential, verdict, error };
  }

  function recheck(method: DescMethod, credential: Credential) {
    const verdict = options.decide(method, credential);
    return verdict instanceof Promise
      ? verdict.then((later) => conclude(credential, later))
      : conclude(credential, verdict);
  }

  function note(values: ContextValues, authorization: Authorization): Authorization {
    values.set(authorizationKey, authorization);
    values.set(principalKey, authorization.verdict.principal);
    const call = values.get(callKey);
    if (call !== undefined) call.verdict = authorization.verdict;
    return authorization;
  }

  function reauthorize(method: DescMethod, credential: Credential, values: ContextValues) {
    const authorization = recheck(method, credential);
    return authorization instanceof Promise
      ? authorization.then((later) => note(values, later))
      : note(values, authorization);
  }

  return {
    authorize: (method, header, values) => reauthorize(method, options.readCredential(header), values),
    reauthorize,
    recheck,
  };
}

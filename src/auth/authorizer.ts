/** Credential, verdict and context values together: what gate and interceptor share. */
import type { DescMethod } from "@bufbuild/protobuf";
import {
  type ConnectError,
  type ContextKey,
  type ContextValues,
  createContextKey,
} from "@connectrpc/connect";
import { callKey, peerAddressKey } from "./call.ts";
import type { Credential } from "./credential.ts";
import { denialError } from "./denial.ts";
import { methodName } from "./method-name.ts";
import type { Policy } from "./policy.ts";
import { principalKey } from "./principal.ts";
import type { ReadHeader } from "./read-header.ts";
import type { Decide, Verdict } from "./verdict.ts";

/** A verdict, and the credential that it can be asked for again with. */
export interface Authorization {
  readonly credential: Credential;
  /** Where the request came from; undefined where that is not known. */
  readonly peerAddress: string | undefined;
  readonly verdict: Verdict;
  /** Undefined: the RPC may go on. */
  readonly error: ConnectError | undefined;
}

/** Where the gate leaves what the interceptor takes up. */
export const authorizationKey: ContextKey<Authorization | undefined> = createContextKey<
  Authorization | undefined
>(undefined, { description: "latchkey authorization" });

export interface Authorizer {
  /** Reads the credential of a request. */
  read(header: ReadHeader): Credential;
  /**
   * Decides on the credential of an RPC, and puts the outcome into the context
   * values. Answers without a promise when the grant is in memory. Does not throw:
   * a refusal is the error inside.
   */
  authorize(
    method: DescMethod,
    credential: Credential,
    values: ContextValues,
  ): Authorization | Promise<Authorization>;
  /**
   * Decides again, after the gate: while the body came in, the credential may have
   * ended. Puts the outcome into the context values as `authorize` does.
   */
  reauthorize(
    method: DescMethod,
    before: Authorization,
    values: ContextValues,
  ): Authorization | Promise<Authorization>;
  /** Decides again, for an RPC that is still running. */
  recheck(method: DescMethod, before: Authorization): Authorization | Promise<Authorization>;
}

export function createAuthorizer(options: {
  decide: Decide;
  policy: Policy;
  readCredential: (header: ReadHeader) => Credential;
  apiKeyHeader: string;
}): Authorizer {
  function conclude(
    credential: Credential,
    peerAddress: string | undefined,
    verdict: Verdict,
  ): Authorization {
    const { denial } = verdict;
    const error =
      denial === undefined ? undefined : denialError({ ...verdict, denial }, options.apiKeyHeader);
    return { credential, peerAddress, verdict, error };
  }

  function ask(method: DescMethod, credential: Credential, peerAddress: string | undefined) {
    const verdict = options.decide({
      method: methodName(method),
      access: options.policy.of(method),
      credential,
      peerAddress,
    });
    return verdict instanceof Promise
      ? verdict.then((later) => conclude(credential, peerAddress, later))
      : conclude(credential, peerAddress, verdict);
  }

  function note(values: ContextValues, authorization: Authorization): Authorization {
    values.set(authorizationKey, authorization);
    values.set(principalKey, authorization.verdict.principal);
    const call = values.get(callKey);
    if (call !== undefined) call.verdict = authorization.verdict;
    return authorization;
  }

  function askAndNote(
    method: DescMethod,
    credential: Credential,
    peerAddress: string | undefined,
    values: ContextValues,
  ) {
    const authorization = ask(method, credential, peerAddress);
    return authorization instanceof Promise
      ? authorization.then((later) => note(values, later))
      : note(values, authorization);
  }

  return {
    read: options.readCredential,
    authorize(method, credential, values) {
      const peerAddress = values.get(callKey)?.peerAddress ?? values.get(peerAddressKey);
      return askAndNote(method, credential, peerAddress, values);
    },
    reauthorize: (method, { credential, peerAddress }, values) =>
      askAndNote(method, credential, peerAddress, values),
    recheck: (method, { credential, peerAddress }) => ask(method, credential, peerAddress),
  };
}

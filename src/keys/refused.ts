/** What callers are told when a change of a key is refused. */
import { Code, ConnectError } from "@connectrpc/connect";
import { CallerEndedError, ExceedsCallerError, KeyStateError, RequestIdTakenError } from "./refusal.ts";
import { UserDisabledError, UserNotFoundError } from "./store.ts";

const codes = [
  [UserNotFoundError, Code.NotFound],
  [UserDisabledError, Code.FailedPrecondition],
  [KeyStateError, Code.FailedPrecondition],
  [ExceedsCallerError, Code.PermissionDenied],
  [CallerEndedError, Code.Unauthenticated],
  [RequestIdTakenError, Code.InvalidArgument],
] as const;

/** Awaits a change; what refuses it is thrown with its code. */
export async function telling<T>(change: Promise<T>): Promise<T> {
  try {
    return await change;
  } catch (error) {
    for (const [kind, code] of codes) {
      if (error instanceof kind) throw new ConnectError(error.message, code);
    }
    throw error;
  }
}

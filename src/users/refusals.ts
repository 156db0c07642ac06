/** Changes of users that are refused, as the caller is told. */
import { Code, ConnectError } from "@connectrpc/connect";
import { CallerEndedError } from "../keys/refusal.ts";
import { LastStaffUserError, UsernameTakenError } from "./changes.ts";
import { CredentialRefusedError } from "./grantor.ts";

/** Awaits a change. Throws what its caller is told where it was refused. */
export async function orRefusal<T>(change: Promise<T>): Promise<T> {
  try {
    return await change;
  } catch (error) {
    if (error instanceof UsernameTakenError) throw new ConnectError(error.message, Code.AlreadyExists);
    if (error instanceof LastStaffUserError) throw new ConnectError(error.message, Code.FailedPrecondition);
    if (error instanceof CallerEndedError) throw new ConnectError(error.message, Code.Unauthenticated);
    if (error instanceof CredentialRefusedError) {
      throw new ConnectError(
        error.message,
        error.reason === "ended" ? Code.Unauthenticated : Code.PermissionDenied,
      );
    }
    throw error;
  }
}

/** The error for a user that is not there. */
export function userNotFound(id: bigint): ConnectError {
  return new ConnectError(`user ${id} not found`, Code.NotFound);
}

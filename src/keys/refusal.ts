/** Why a change of a key is refused. What callers are told of it is the service's matter. */

/** The change would give more than the caller's own key has, or what only staff may give. */
export class ExceedsCallerError extends Error {
  override name = "ExceedsCallerError";
}

/** The caller's key or user has ended since the call was let in. */
export class CallerEndedError extends Error {
  override name = "CallerEndedError";
}

/** The key is not in a state that allows the change. */
export class KeyStateError extends Error {
  override name = "KeyStateError";
}

/** The request id was used for another request. */
export class RequestIdTakenError extends Error {
  override name = "RequestIdTakenError";
}

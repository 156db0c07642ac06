/** An error with a code, as those of the network have. */
export function connectionError(code: string, message: string): Error {
  return Object.assign(new Error(message), { code });
}

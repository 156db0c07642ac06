/** What a failed call is told as. */
import { Code, ConnectError } from "@connectrpc/connect";

/** Whether the server has read the request and done nothing; otherwise nobody knows. */
export function isRefusal(error: unknown): boolean {
  const { code } = ConnectError.from(error);
  return ![Code.Unavailable, Code.Unknown, Code.DeadlineExceeded, Code.Canceled, Code.Internal].includes(
    code,
  );
}

/** One sentence for a person. */
export function errorText(error: unknown): string {
  const { code, rawMessage } = ConnectError.from(error);
  if (/failed to fetch|networkerror|load failed/i.test(rawMessage)) {
    return "The server cannot be reached. Check that it runs, then try again.";
  }
  if (code === Code.Unavailable) return `The server cannot answer now: ${rawMessage}`;
  if (code === Code.DeadlineExceeded) return "The server took too long to answer. Try again.";
  if (code === Code.Internal || code === Code.Unknown)
    return `Something went wrong on the server: ${rawMessage}`;
  return rawMessage === "" ? `The server answered ${Code[code]}.` : sentence(rawMessage);
}

function sentence(text: string): string {
  // A name of the API, like allowed_methods[0], stays as it is.
  const capital = /^\w*[_[.]/.test(text) ? text : text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(capital) ? capital : `${capital}.`;
}

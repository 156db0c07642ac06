/** The message in the query of a Connect GET. */
import { base64Decode } from "@bufbuild/protobuf/wire";
import { Code, ConnectError } from "@connectrpc/connect";

/** Refuses a message that is no base64 though it says so, which Connect would take for a failure of the server's. */
export function refuseDamagedQuery(url: string): ConnectError | undefined {
  const at = url.indexOf("?");
  const query = new URLSearchParams(at < 0 ? "" : url.slice(at));
  if (query.get("base64") !== "1") return undefined;
  try {
    base64Decode(query.get("message") ?? "");
    return undefined;
  } catch {
    return new ConnectError(
      "the query's message is not base64, though base64=1 says so",
      Code.InvalidArgument,
    );
  }
}

/** Who makes a change, for the audit log. */
import type { HandlerContext } from "@connectrpc/connect";
import { callKey } from "../auth/call.ts";
import { getPrincipal } from "../auth/principal.ts";
import type { Actor } from "../db/audit.ts";

/** The actor behind an RPC. */
export function actorOf(context: HandlerContext): Actor {
  const principal = getPrincipal(context);
  const call = context.values.get(callKey);
  return {
    userId: principal?.userId,
    apiKeyId: principal?.apiKeyId,
    peerAddress: call?.peerAddress,
    requestId: call?.requestId,
  };
}

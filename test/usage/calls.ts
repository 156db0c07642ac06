/** Calls that have ended, as the recorder is given them, and batches of them. */
import { beginCall, type EndedCall, endCall } from "../../src/auth/call.ts";
import { methodName } from "../../src/auth/method-name.ts";
import { UserService } from "../../src/gen/api/users/user_service_pb.js";
import type { UsageBatch } from "../../src/usage/store.ts";
import { addCounts, addKeyRollups, emptyTotals } from "../../src/usage/totals.ts";

const method = methodName(UserService.method.getUser);

/** A call with a key that ended well, at a time of one's choosing. */
export function callAt(startedAtMs: number, caller: { userId: bigint; apiKeyId: string }): EndedCall {
  const begun = beginCall({ method, protocol: "grpc", requestId: null, userAgent: "test/1" });
  begun.verdict = {
    denial: undefined,
    principal: {
      ...caller,
      username: "ada",
      isStaff: false,
      credentialKind: "api_key",
      canVerify: false,
    },
    subject: caller,
    credentialKind: "api_key",
  };
  const ended = endCall(begun, { code: 0, errorMessage: undefined, requestBytes: 10, responseBytes: 100 });
  return { ...ended, startedAtMs, durationUs: 200 + (startedAtMs % 5000) };
}

/** The batch of an instance that has a number, with what its calls count up. */
export function usageBatch(number: number, calls: EndedCall[]): UsageBatch {
  const totals = emptyTotals();
  for (const call of calls) {
    addCounts(totals, call);
    addKeyRollups(totals, call);
  }
  return { number, calls, totals };
}

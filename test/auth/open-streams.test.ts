/** When open streams are looked at again. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Code, ConnectError } from "@connectrpc/connect";
import type { Authorization } from "../../src/auth/authorizer.ts";
import type { GrantChange } from "../../src/auth/grant.ts";
import { createOpenStreams } from "../../src/auth/open-streams.ts";
import { UserService } from "../../src/gen/api/users/user_service_pb.js";

const apiKeyId = "01890a5d-ac96-774b-bcce-b302099a8057";
const sessionId = "01890a5d-ac96-774b-bcce-b302099a8058";
const aDayMs = 24 * 3_600_000;

const changes: Record<string, { change: GrantChange; ends: boolean }> = {
  "its key changes": { change: { kind: "key", apiKeyId }, ends: true },
  "its user changes": { change: { kind: "user", userId: 5n }, ends: true },
  "anything may have changed": { change: { kind: "all" }, ends: true },
  "changes can be heard no more": { change: { kind: "unheard" }, ends: true },
  "its session ends": { change: { kind: "session", sessionId }, ends: true },
  "another session ends": { change: { kind: "session", sessionId: apiKeyId }, ends: false },
  "another user changes": { change: { kind: "user", userId: 6n }, ends: false },
  "a key is made": { change: { kind: "new_key" }, ends: false },
};

for (const [what, { change, ends }] of Object.entries(changes)) {
  test(`a stream whose credential has ended is ${ends ? "ended" : "not looked at"} when ${what}`, async (t) => {
    let tell = (_change: GrantChange) => {};
    let looks = 0;
    const before = {
      credential: { kind: "api_key", hash: "hash", foreign: false },
      verdict: { subject: { userId: 5n, apiKeyId }, principal: { sessionId } },
    } as unknown as Authorization;
    const streams = createOpenStreams({
      authorizer: {
        recheck() {
          looks++;
          return { ...before, error: new ConnectError("revoked", Code.Unauthenticated) };
        },
      } as never,
      grants: {
        onChange(listener: typeof tell) {
          tell = listener;
          return () => {};
        },
      } as never,
      recheckMs: aDayMs,
      onError: assert.ifError,
    });
    t.after(() => streams.close());
    const ended = new Promise<ConnectError>((end) => {
      streams.watch({ method: UserService.method.getUser, authorization: before, end });
    });
    tell(change);
    if (ends) assert.equal((await ended).code, Code.Unauthenticated);
    assert.equal(looks, ends ? 1 : 0);
  });
}

/** The code that an RPC is recorded with is the one that its caller saw. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Code, ConnectError, createHandlerContext } from "@connectrpc/connect";
import type { EndedCall } from "../../src/auth/call.ts";
import { UserService } from "../../src/gen/api/users/user_service_pb.js";
import { Place } from "../../src/rpc/admission.ts";
import { RunningRpc } from "../../src/rpc/running-rpc.ts";

/** Records an RPC that its client reset when so much of its deadline was left. */
function recordReset(timeoutMs: number | undefined, leftMs: number | undefined): EndedCall {
  const recorded: EndedCall[] = [];
  const rpc = new RunningRpc(
    {
      accepts: () => true,
      record(call) {
        recorded.push(call);
        return undefined;
      },
    },
    "127.0.0.1",
    new Place(false),
  );
  const context = createHandlerContext({
    service: UserService,
    method: UserService.method.getUser,
    protocolName: "grpc",
    requestMethod: "POST",
    url: "http://localhost/",
  });
  let left = timeoutMs;
  rpc.begin({ ...context, timeoutMs: () => left });
  left = leftMs;
  context.abort(new ConnectError("http/2 stream closed with error code CANCEL (0x8)", Code.Canceled));
  rpc.record();
  assert.equal(recorded.length, 1);
  return recorded[0]!;
}

for (const [title, timeoutMs, leftMs, expected] of [
  ["without a deadline", undefined, undefined, "Canceled"],
  ["long before its deadline", 60_000, 30_000, "Canceled"],
  ["well before its deadline", 60_000, 101, "Canceled"],
  ["at its deadline, by its own clock", 60_000, 100, "DeadlineExceeded"],
  ["past its deadline", 60_000, -5, "DeadlineExceeded"],
  ["early in a short deadline", 50, 26, "Canceled"],
  ["late in a short deadline", 50, 25, "DeadlineExceeded"],
] as const) {
  test(`an RPC that its client resets ${title} is recorded as ${expected}`, () => {
    const { code } = recordReset(timeoutMs, leftMs);
    assert.equal(Code[code], expected);
  });
}

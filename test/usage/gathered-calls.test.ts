/** Calls taken apart and put together again, and their totals against plain sums. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Code } from "@connectrpc/connect";
import fc from "fast-check";
import type { EndedCall } from "../../src/auth/call.ts";
import { numbersLiteral } from "../../src/usage/byte-literals.ts";
import { bucketOf } from "../../src/usage/histogram.ts";
import { keyRollupsOf, methodRollupsOf, minuteOf, noKey, type Rollup } from "../../src/usage/totals.ts";
import { callOf, gather } from "./batches.ts";

const uuid = (n: number) => `01890a5d-ac96-774b-bcce-b30209${n.toString().padStart(6, "0")}`;
const minute = Date.UTC(2031, 2, 29, 9, 10);
const optional = <T>(arbitrary: fc.Arbitrary<T>) => fc.option(arbitrary, { nil: undefined });

/** Few values of each field, so that calls have much in common. */
const calls: fc.Arbitrary<EndedCall> = fc
  .record({
    key: fc.integer({ min: 1, max: 3 }),
    method: fc.constantFrom("Get", "List").map((name) => ({ service: "a.B", name })),
    protocol: fc.constantFrom("grpc", "connect"),
    code: fc.constantFrom(0 as const, Code.Unauthenticated),
    signedIn: fc.constantFrom("by key", "by user", "refused", "nobody"),
    startedAtMs: fc.integer({ min: minute - 5, max: minute + 5 }),
    durationUs: fc.oneof(fc.integer({ min: 0, max: 100_000 }), fc.constant(35 * 86_400_000_000)),
    requestBytes: optional(fc.integer({ min: 0, max: 2 ** 40 })),
    responseBytes: optional(fc.constantFrom(0, 7)),
    peerAddress: optional(fc.constantFrom("10.0.0.1", "2001:db8::1")),
    userAgent: fc.constantFrom("", "curl"),
    requestId: optional(fc.constantFrom("r-1", "r-2")),
    errorMessage: optional(fc.constantFrom("no", "never")),
    traceId: optional(fc.constant("0af7651916cd43dd8448eb211c80319c")),
  })
  .map(({ key, signedIn, requestId, ...rest }) => {
    const call = callOf(uuid(key), rest, BigInt(key));
    const { verdict } = call;
    const named = verdict?.subject?.userId ?? 0n;
    return {
      ...call,
      requestId: requestId ?? call.id,
      verdict:
        signedIn === "nobody" || verdict === undefined
          ? undefined
          : {
              ...verdict,
              ...(signedIn === "refused" && { denial: "REVOKED" as const, principal: undefined }),
              ...(signedIn === "by user" && {
                principal: undefined,
                subject: { userId: named, apiKeyId: undefined },
                credentialKind: "secret_key" as const,
              }),
            },
    };
  });

/** What a rollup of some calls has to say, in words. */
function sumsOf(all: EndedCall[], subjectOf: (call: EndedCall) => string | undefined): string[] {
  const groups = Map.groupBy(all, (call) => {
    const subject = subjectOf(call);
    return subject === undefined
      ? undefined
      : [minuteOf(call), call.method.name, call.code, call.verdict?.denial ?? "", subject].join(" ");
  });
  groups.delete(undefined);
  return [...groups]
    .map(([name, members]) => {
      const sum = (value: (call: EndedCall) => number | undefined) =>
        members.reduce((total, call) => total + (value(call) ?? 0), 0);
      const buckets = members.map(({ durationUs }) => bucketOf(durationUs));
      const latency = Array.from(
        { length: Math.max(...buckets) + 1 },
        (_, bucket) => buckets.filter((one) => one === bucket).length,
      );
      const sums = [sum(() => 1), ...[sum((c) => c.durationUs), sum((c) => c.requestBytes)]];
      return [name, ...sums, sum((c) => c.responseBytes), latency].join(" ");
    })
    .sort();
}

function told(rollups: Rollup[]): string[] {
  return rollups
    .map(({ bucketMs, method, code, denialReason, apiKeyId, userId, ...sums }) =>
      [
        ...[bucketMs, method, code, denialReason, `${apiKeyId ?? ""}${userId ?? ""}`, sums.requests],
        ...[sums.durationUs, sums.requestBytes, sums.responseBytes, sums.latency],
      ].join(" "),
    )
    .sort();
}

test("what is gathered of calls is all of them, and their totals are their sums", () => {
  fc.assert(
    fc.property(fc.array(calls, { maxLength: 200 }), (all) => {
      const gathered = gather(all);
      assert.equal(gathered.rows, all.length);
      all.forEach((call, row) => {
        const { startedMs: _, ...kept } = gathered.at(row);
        const { startedMs, ...expected } = call;
        const { principal, ...verdict } = expected.verdict ?? {};
        // Kin may have principals that say the same of different calls.
        assert.deepEqual(
          { ...kept, verdict: { ...kept.verdict, principal } },
          { ...expected, verdict: { ...verdict, principal } },
        );
      });
      assert.deepEqual(
        told(methodRollupsOf(gathered.totals)),
        sumsOf(all, () => ""),
      );
      assert.deepEqual(
        told(keyRollupsOf(gathered.totals)),
        sumsOf(
          all,
          ({ verdict }) =>
            verdict?.subject && `${verdict.subject.apiKeyId ?? noKey}${verdict.subject.userId}`,
        ),
      );
      const counted = Map.groupBy(all, ({ verdict }) => verdict?.principal?.apiKeyId);
      counted.delete(undefined);
      assert.deepEqual(
        new Map([...gathered.totals.keys].sort()),
        new Map(
          [...counted]
            .map(([id, members]): [string, object] => [
              id ?? "",
              { requests: members.length, lastUsedMs: Math.max(...members.map((c) => c.startedAtMs)) },
            ])
            .sort(),
        ),
      );
    }),
  );
});

test("numbers become the literal of an array", () => {
  assert.equal(numbersLiteral(new Float64Array(3), 0), "{}");
  fc.assert(
    fc.property(fc.array(fc.oneof(fc.integer(), fc.maxSafeInteger())), fc.integer(), (numbers, base) => {
      const literal = numbersLiteral(Float64Array.from(numbers), numbers.length, base);
      assert.equal(literal, `{${numbers.map((number) => number - base).join(",")}}`);
    }),
  );
});

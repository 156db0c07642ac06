/** Batches of usage as the recorder writes them, of calls that nobody made. */
import type postgres from "postgres";
import { v7 as uuidv7 } from "uuid";
import { beginCall, type EndedCall, endCall } from "../../src/auth/call.ts";
import { idSeriesAt } from "../../src/auth/call-id.ts";
import { methodName } from "../../src/auth/method-name.ts";
import { createRedactor } from "../../src/auth/token.ts";
import { database } from "../../src/db/client.ts";
import { UserService } from "../../src/gen/api/users/user_service_pb.js";
import { GatheredCalls } from "../../src/usage/gathered-calls.ts";
import { createUsageStore, type UsageBatch, type WriteUsage } from "../../src/usage/store.ts";

/** A writer of an instance of its own. */
export function createWriter(client: postgres.Sql): WriteUsage {
  const instance = { id: uuidv7(), hostname: "test", pid: 1, version: "0", startedAt: new Date() };
  return createUsageStore({ db: database(client), instance, redact: createRedactor("lk") });
}

/** A key of a user of its own, past all services; returns its id. */
export async function insertKey(sql: postgres.Sql): Promise<string> {
  const id = uuidv7();
  const [user] = await sql`INSERT INTO users (username, username_key) VALUES (${id}, ${id}) RETURNING id`;
  await sql`INSERT INTO api_keys (id, user_id, name, type, hash, start)
    VALUES (${id}, ${user?.id}, 'k', 'service', ${Buffer.from(id)}, 'lk_x')`;
  await sql`INSERT INTO api_key_usage (api_key_id) VALUES (${id})`;
  return id;
}

/** A call with a key of a user: 1 ms, now, ok. */
export function callOf(apiKeyId: string, change: Partial<EndedCall> = {}, userId = 1n): EndedCall {
  const begun = beginCall({
    method: methodName(UserService.method.getUser),
    protocol: "grpc",
    requestId: null,
    userAgent: null,
  });
  begun.verdict = {
    denial: undefined,
    principal: {
      userId,
      username: "ada",
      isStaff: false,
      credentialKind: "api_key",
      apiKeyId,
      canVerify: false,
    },
    subject: { userId, apiKeyId },
    credentialKind: "api_key",
  };
  const ended = endCall(begun, { code: 0, errorMessage: undefined, requestBytes: 1, responseBytes: 2 });
  return { ...ended, durationUs: 1000, ...change };
}

/** What a call has of its own where it is otherwise the same as another. */
export function newId(): Pick<EndedCall, "id" | "idSeries"> {
  const idSeries = idSeriesAt(Date.now());
  return { id: idSeries.next(), idSeries };
}

export function batchOf(number: number, calls: EndedCall[]): UsageBatch {
  const gathered = gather(calls);
  return { number, calls: gathered, totals: gathered.totals };
}

export function gather(calls: Iterable<EndedCall>): GatheredCalls {
  const gathered = new GatheredCalls();
  for (const call of calls) gathered.add(call);
  return gathered;
}

/** The calls of a batch that get rows. */
export function callsOf({ calls }: Pick<UsageBatch, "calls">): EndedCall[] {
  return Array.from({ length: calls.rows }, (_, row) => calls.at(row));
}

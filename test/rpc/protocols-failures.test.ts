/** What a handler throws that was not meant for the wire is logged, and told as `internal` alone. */
import assert from "node:assert/strict";
import { after, before, mock, test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { StringValueSchema } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError } from "@connectrpc/connect";
import type { TestServer } from "../harness/server.ts";
import { until } from "../harness/until.ts";
import {
  assertAnswers,
  type Bytes,
  type BytesInit,
  collect,
  fixtureClient,
  type Protocol,
  protocols,
  startFixture,
} from "./protocols.ts";

const text = "the pool at 10.0.0.5 is empty";

/** What goes wrong in a handler, by the name that a request asks for it by. */
const failures: Record<string, () => never> = {
  "an Error": () => {
    throw new Error(text);
  },
  "an Error with a code, as Node's are": () => {
    throw Object.assign(new Error(text), { code: "ECONNREFUSED" });
  },
  "an Error caused by another": () => {
    throw new Error("the query failed", { cause: new Error(text) });
  },
  "an AbortError of its own": () => {
    throw new DOMException(text, "AbortError");
  },
  "a string": () => {
    throw text;
  },
  nothing: () => {
    throw undefined;
  },
  "an object that cannot be read": () => {
    throw Object.defineProperty({ text }, "message", {
      get() {
        throw new Error(text);
      },
    });
  },
};

/** Answers that are no messages. */
const answers: Record<string, BytesInit> = {
  "an answer of the wrong type": create(StringValueSchema, { value: text }) as never,
  "an answer that cannot be encoded": { value: text as never },
};

const decoder = new TextDecoder();
const consoleMethods = ["debug", "error", "info", "log", "trace", "warn"] as const;
const written: unknown[][] = [];
let latchkey: TestServer;

before(async () => {
  for (const name of consoleMethods) {
    mock.method(console, name, (...args: unknown[]) => void written.push(args));
  }
  const answer = ({ value }: Bytes): BytesInit => {
    const name = decoder.decode(value);
    return answers[name] ?? failures[name]?.() ?? {};
  };
  latchkey = await startFixture({
    unary: async (request) => answer(request),
    async *serverStream(request) {
      yield {};
      yield answer(request);
    },
    async clientStream(messages) {
      for await (const message of messages) return answer(message);
      return {};
    },
  });
});
after(async () => {
  mock.restoreAll();
  await latchkey.close();
});

async function* one(value: Uint8Array) {
  yield { value };
}

const calls = {
  Unary: (protocol: Protocol, value: Uint8Array) => fixtureClient(latchkey, protocol).unary({ value }),
  ServerStream: (protocol: Protocol, value: Uint8Array) =>
    collect(fixtureClient(latchkey, protocol).serverStream({ value })),
  ClientStream: (protocol: Protocol, value: Uint8Array) =>
    fixtureClient(latchkey, protocol).clientStream(one(value)),
};

function isTold(error: unknown): boolean {
  assert.ok(error instanceof ConnectError);
  assert.equal(Code[error.code], "Internal");
  assert.equal(error.rawMessage, "internal error");
  assert.doesNotMatch(JSON.stringify([error.details, ...error.metadata]), new RegExp(text));
  return true;
}

for (const protocol of protocols) {
  for (const [method, call] of Object.entries(calls)) {
    for (const thrown of Object.keys(failures)) {
      test(`over ${protocol.name}, ${thrown} from ${method} is told as internal without its text, and is logged`, async () => {
        const linesBefore = latchkey.logLines.length;
        await assert.rejects(call(protocol, new TextEncoder().encode(thrown)), isTold);
        const lines = latchkey.logLines.slice(linesBefore);
        assert.deepEqual(
          lines.map(({ level, msg, rpc }) => [level, msg, rpc]),
          [[50, "a handler failed", `test.Fixture/${method}`]],
        );
        if (thrown !== "nothing" && !thrown.includes("cannot be read")) {
          assert.match(JSON.stringify(lines[0]?.err), new RegExp(text));
        }
      });
    }
  }
}

test("what was told as internal is in the request log as internal, without its text", async () => {
  const expected = protocols.length * Object.keys(failures).length;
  const rows = await until(
    () => latchkey.sql`
      SELECT method, code, error_message, count(*)::int AS rpcs FROM request_logs WHERE error_message = 'internal error'
      GROUP BY method, code, error_message ORDER BY method`,
    (found) => found.reduce((sum, row) => sum + row.rpcs, 0) === 3 * expected,
  );
  assert.deepEqual(
    [...rows],
    Object.keys(calls)
      .sort()
      .map((method) => ({ method, code: Code.Internal, error_message: "internal error", rpcs: expected })),
  );
});

for (const protocol of protocols) {
  test(`over ${protocol.name}, the cause of an error that was meant for the wire stays here`, async () => {
    const server = await startFixture({
      unary() {
        throw new ConnectError("try another", Code.NotFound, { "x-hint": "b" }, undefined, new Error(text));
      },
    });
    try {
      await assert.rejects(fixtureClient(server, protocol).unary({}), (error: unknown) => {
        assert.ok(error instanceof ConnectError);
        assert.deepEqual([Code[error.code], error.rawMessage], ["NotFound", "try another"]);
        assert.equal(error.metadata.get("x-hint"), "b");
        assert.doesNotMatch(JSON.stringify([error.details, ...error.metadata]), new RegExp(text));
        return true;
      });
    } finally {
      await server.close();
    }
  });
}

for (const protocol of protocols) {
  for (const [method, call] of Object.entries(calls)) {
    for (const answered of Object.keys(answers)) {
      test(`over ${protocol.name}, ${answered} from ${method} is told as internal`, async () => {
        await assert.rejects(call(protocol, new TextEncoder().encode(answered)), (error: unknown) => {
          assert.ok(error instanceof ConnectError);
          assert.equal(Code[error.code], "Internal");
          return true;
        });
      });
    }
  }
}

test("nothing of it is written to the console, and the server answers", async () => {
  assert.deepEqual(written, []);
  await assertAnswers(latchkey);
});

/** The server ends what takes too long, whatever its handler, its client or its body do. */
import assert from "node:assert/strict";
import http from "node:http";
import { connect as connectHttp2, constants, type OutgoingHttpHeaders } from "node:http2";
import { after, before, test } from "node:test";
import { Code, ConnectError } from "@connectrpc/connect";
import type { TestServer } from "../harness/server.ts";
import { until } from "../harness/until.ts";
import {
  assertAnswers,
  type Bytes,
  collect,
  fixtureClient,
  never,
  protocols,
  startFixture,
} from "./protocols.ts";

const timeoutMs = 50;
/** A client's deadline that no test lives to see. */
const farMs = 3_600_000;
const afterFirst = { value: new Uint8Array([1]) };

/** Never ends, and looks at no signal; what is sent with 1 gets one message first. */
const deaf = {
  unary: () => never,
  async *serverStream({ value }: Bytes) {
    if (value[0] === 1) yield {};
    await never;
  },
  clientStream: () => never,
};

/** Ends after a timer of 1 ms, which is what Node makes of one beyond 2^31 - 1 ms. */
function outlastMillisecond(): Promise<object> {
  return new Promise((resolve) => setTimeout(resolve, 5, {}));
}

function failsWith(code: Code, message?: RegExp) {
  return (error: unknown) => {
    assert.ok(error instanceof ConnectError, String(error));
    assert.equal(Code[error.code], Code[code], error.message);
    if (message !== undefined) assert.match(error.rawMessage, message);
    return true;
  };
}

/** The codes in the log of the RPCs with this request id, once there are so many. */
async function logged(server: TestServer, requestId: string, rpcs: number): Promise<string[]> {
  const rows = await until(
    () => server.sql<{ code: Code }[]>`SELECT code FROM request_logs WHERE request_id = ${requestId}`,
    (found) => found.length === rpcs,
  );
  return rows.map(({ code }) => Code[code]);
}

let latchkey: TestServer;
let brief: TestServer;
let slow: TestServer;
const warnings: string[] = [];
before(async () => {
  latchkey = await startFixture(deaf);
  brief = await startFixture(deaf, { maxUnaryMs: timeoutMs });
  slow = await startFixture({ unary: outlastMillisecond });
  process.on("warning", ({ name }) => warnings.push(name));
});
after(async () => {
  await latchkey.close();
  await brief.close();
  await slow.close();
});

for (const protocol of protocols) {
  // Sent as a header, the client sets no timer of its own: only the server can end the call.
  const headers = { [protocol.timeoutHeader]: protocol.timeout(timeoutMs) };
  const late = failsWith(Code.DeadlineExceeded);

  test(`over ${protocol.name}, a handler that never ends is answered at the client's deadline`, async () => {
    const client = fixtureClient(latchkey, protocol);
    const requestId = `deaf-${protocol.name.replace(" ", "-")}`;
    const identified = { headers: { ...headers, "x-request-id": requestId } };
    await assert.rejects(client.unary({}, identified), late);
    await assert.rejects(collect(client.serverStream({}, identified)), late);
    await assert.rejects(client.clientStream(stream({}), identified), late);
    assert.deepEqual(await logged(latchkey, requestId, 3), Array(3).fill("DeadlineExceeded"));
  });

  test(`over ${protocol.name}, a stream that falls silent after its first message ends at the client's deadline`, async () => {
    let messages = 0;
    const read = async () => {
      for await (const _ of fixtureClient(latchkey, protocol).serverStream(afterFirst, { headers }))
        messages++;
    };
    await assert.rejects(read(), late);
    assert.equal(messages, 1);
  });

  test(`over ${protocol.name}, a client that never ends its messages is answered at its deadline`, async () => {
    const client = fixtureClient(latchkey, protocol);
    const silent = async function* () {
      yield {};
      await never;
    };
    await assert.rejects(client.clientStream(silent(), { headers }), late);
  });

  test(`over ${protocol.name}, a unary call ends at the server's own deadline, however far the client's is`, async () => {
    const client = fixtureClient(brief, protocol);
    const said = failsWith(Code.DeadlineExceeded, /longer than this server allows: 50 ms/);
    await assert.rejects(client.unary({}), said);
    const far = { [protocol.timeoutHeader]: protocol.timeout(farMs) };
    await assert.rejects(client.unary({}, { headers: far }), said);
  });

  for (const value of protocol.timeoutHeader === "grpc-timeout"
    ? ["", "5", "m", "-5m", "1.5S", "5s", "123456789m", "5 m", "0x5m"]
    : ["", "5ms", "-5", "1.5", "12345678901", "1e3", "0x5", "NaN"]) {
    test(`over ${protocol.name}, "${value}" is no deadline and is refused`, async () => {
      const client = fixtureClient(latchkey, protocol);
      const bad = { headers: { [protocol.timeoutHeader]: value } };
      const refused = failsWith(Code.InvalidArgument, /timeout/);
      await assert.rejects(client.unary({}, bad), refused);
      await assert.rejects(collect(client.serverStream({}, bad)), refused);
    });
  }

  test(`over ${protocol.name}, a deadline of nothing has passed already`, async () => {
    const passed = { headers: { [protocol.timeoutHeader]: protocol.timeout(0) } };
    await assert.rejects(fixtureClient(latchkey, protocol).unary({}, passed), late);
  });

  for (const value of protocol.timeoutHeader === "grpc-timeout"
    ? ["99999999H", "99999999M", "2147484S"]
    : ["2147483648", "9999999999"]) {
    test(`over ${protocol.name}, a deadline beyond 24 days (${value}) is not taken for one that has passed`, async () => {
      const far = { headers: { [protocol.timeoutHeader]: value } };
      await fixtureClient(slow, protocol).unary({}, far);
      assert.deepEqual(warnings, []);
    });
  }
}

test("a stream outlives the longest that a unary call may take", async () => {
  const held = Promise.withResolvers<void>();
  const server = await startFixture(
    {
      unary: () => never,
      async *serverStream() {
        yield {};
        await held.promise;
        yield {};
      },
    },
    { maxUnaryMs: timeoutMs },
  );
  try {
    const client = fixtureClient(server, protocols[0]!);
    const stream = client.serverStream({})[Symbol.asyncIterator]();
    assert.equal((await stream.next()).done, false);
    await assert.rejects(client.unary({}), failsWith(Code.DeadlineExceeded));
    held.resolve();
    assert.equal((await stream.next()).done, false);
    assert.equal((await stream.next()).done, true);
  } finally {
    await server.close();
  }
});

/** Sends headers, and of the body less than was promised. Resolves with all that is answered. */
const sends = {
  "HTTP/1.1": async (server: TestServer, path: string, headers: OutgoingHttpHeaders): Promise<string> => {
    const request = http.request(`${server.url}${path}`, {
      method: "POST",
      headers: { ...headers, "content-length": 1000 } as http.OutgoingHttpHeaders,
    });
    request.on("error", () => {}); // The answer comes first; then the connection ends.
    request.write("\0");
    const [response] = await new Promise<[http.IncomingMessage]>((resolve) =>
      request.once("response", (...seen) => resolve(seen)),
    );
    let answer = JSON.stringify(response.headers);
    for await (const chunk of response) answer += chunk;
    request.destroy();
    return answer + JSON.stringify(response.trailers);
  },
  "HTTP/2": async (server: TestServer, path: string, headers: OutgoingHttpHeaders): Promise<string> => {
    const session = connectHttp2(server.url);
    try {
      const request = session.request({ ":method": "POST", ":path": path, te: "trailers", ...headers });
      let answer = "";
      for (const event of ["response", "trailers"]) {
        request.on(event, (seen: object) => {
          answer += JSON.stringify(seen);
        });
      }
      request.on("data", (chunk: Buffer) => {
        answer += chunk;
      });
      request.on("error", () => {});
      request.write("\0");
      await new Promise((resolve) => request.once("close", resolve));
      assert.ok([constants.NGHTTP2_NO_ERROR].includes(request.rstCode), `reset with ${request.rstCode}`);
      return answer;
    } finally {
      session.destroy();
    }
  },
};

for (const [version, send] of Object.entries(sends)) {
  for (const [type, deadline, expected] of [
    ["application/grpc", { "grpc-timeout": "50m" }, /"grpc-status":"4"/],
    ["application/grpc-web", { "grpc-timeout": "50m" }, /grpc-status: ?4/],
    ["application/proto", { "connect-timeout-ms": "50" }, /"code":"deadline_exceeded"/],
    ["application/json", { "connect-timeout-ms": "50" }, /"code":"deadline_exceeded"/],
  ] as const) {
    if (version === "HTTP/1.1" && type === "application/grpc") continue;

    test(`over ${version}, ${type} whose body never comes is answered at the client's deadline`, async () => {
      const headers = { "content-type": type, ...deadline };
      assert.match(await send(latchkey, "/test.Fixture/Unary", headers), expected);
    });

    test(`over ${version}, ${type} whose body never comes is answered at the server's own deadline`, async () => {
      assert.match(await send(brief, "/test.Fixture/Unary", { "content-type": type }), expected);
    });
  }
}

test("an answer that its client does not take is given up, with what it holds", async () => {
  const session = connectHttp2(brief.url, { settings: { initialWindowSize: 0 } });
  try {
    const call = session.request({
      ":method": "POST",
      ":path": "/test.Fixture/Unary",
      "content-type": "application/proto",
    });
    call.on("error", () => {});
    call.end();
    const [status] = await new Promise<unknown[]>((resolve) =>
      call.once("response", (headers) => resolve([headers[":status"]])),
    );
    assert.equal(status, 504);
    await new Promise((resolve, reject) => {
      call.once("close", resolve);
      setTimeout(reject, 10_000, new Error("the answer still waits for its client")).unref();
    });
  } finally {
    session.destroy();
  }
});

test("after all of it the server answers", async () => {
  await assertAnswers(latchkey);
  // A slow machine may not manage it in the time that this one allows.
  await until(
    () =>
      assertAnswers(brief).then(
        () => true,
        () => false,
      ),
    (answered) => answered,
  );
});

async function* stream<T>(...values: T[]): AsyncGenerator<T> {
  yield* values;
}

/** What wrk counted is read as it means it. How it counts is tested in `test/clients/wrk.test.ts`, with wrk itself. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, type RequestListener } from "node:http";
import type { AddressInfo } from "node:net";
import { type TestContext, test } from "node:test";
import { echoPath, jsonMessage } from "./echo.ts";
import { readJsonAnswer } from "./json-call.ts";
import { argumentsFor, type Counted, parseCounted, resultOf } from "./wrk.ts";

const target = { answerBytes: 150 };
const load = { connections: 10 };
const allOk: Counted = {
  ...{ durationUs: 1_201_000, answered: 60_000, bytes: 60_000 * 150, wrongStatus: 0, late: 0 },
  ...{ connectErrors: 0, readErrors: 0, writeErrors: 0, p50Us: 1200, p99Us: 3400 },
};

test("the line of JSON is read, whatever wrk prints before", () => {
  const printed = `begun\nRunning 3s test @ http://127.0.0.1:1/\nTransfer/sec:     10.16MB\n${JSON.stringify(allOk)}\n`;
  assert.deepEqual(parseCounted(printed), allOk);
});

test("what has no result is refused, with what was printed", () => {
  assert.throws(() => parseCounted("wrk: cannot open"), /cannot open/);
});

test("of a load that went well all is ok, and what was on its way at its end is begun", () => {
  assert.deepEqual(resultOf(allOk, target, load), {
    ...{ seconds: 1.201, ok: 60_000, begun: 60_010, failed: 0, p50Ms: 1.2, p99Ms: 3.4 },
  });
});

for (const [what, counted, expected] of [
  ["another status", { wrongStatus: 7 }, { ok: 59_993, failed: 7, begun: 60_010 }],
  ["an answer that came late", { late: 7 }, { ok: 59_993, failed: 7, begun: 60_010 }],
  ["a connection that ended", { readErrors: 6, writeErrors: 1 }, { ok: 60_000, failed: 7, begun: 60_017 }],
  ["a connection that was not had", { connectErrors: 7 }, { ok: 60_000, failed: 7, begun: 60_010 }],
  ["a shorter body", { bytes: 60_000 * 150 - 1000 }, { ok: 59_993, failed: 7, begun: 60_010 }],
] as const) {
  test(`${what} is a call that failed`, () => {
    const { ok, failed, begun } = resultOf({ ...allOk, ...counted }, target, load);
    assert.deepEqual({ ok, failed, begun }, expected);
  });
}

test("answers of which only the beginning came do not stand for others that were wrong", () => {
  const counted = { ...allOk, wrongStatus: 7, bytes: allOk.bytes + 900 };
  assert.equal(resultOf(counted, target, load).ok, 59_993);
});

test("where nothing is answered, all that was on its way failed, and there is no latency", () => {
  const counted = { ...allOk, answered: 0, bytes: 0, p50Us: 0, p99Us: 0 };
  assert.deepEqual(resultOf(counted, target, load), {
    ...{ seconds: 1.201, ok: 0, begun: 10, failed: 10, p50Ms: Number.NaN, p99Ms: Number.NaN },
  });
});

test("all peers get the same request, from one thread that would end by itself", () => {
  const call = { url: "http://127.0.0.1:1", token: "t" };
  assert.deepEqual(argumentsFor(call, { connections: 10, seconds: 1.2 }, "file"), [
    ...["-t", "1", "-c", "10", "-d", "3", "--timeout", "4", "-H", "content-type: application/json"],
    ...["-H", "connect-protocol-version: 1", "-H", "x-api-key: t", "-s", "file"],
    ...[`http://127.0.0.1:1${echoPath}`, '{"name":"bench-name"}'],
  ]);
});

/** Returns what to call. */
async function serve(t: TestContext, answer: RequestListener) {
  const server = createServer(answer);
  await once(server.listen(0, "127.0.0.1"), "listening");
  t.after(() => server.close());
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, token: "t" };
}

test("the bytes of an answer are those of its headers too", async (t) => {
  const call = await serve(t, (req, res) => {
    assert.equal(req.headers.connection, undefined);
    assert.equal(req.headers["content-length"], String(jsonMessage.length));
    res.sendDate = false;
    res.writeHead(200, { "content-length": jsonMessage.length }).end(jsonMessage);
  });
  const head = `HTTP/1.1 200 OK\r\ncontent-length: ${jsonMessage.length}\r\nConnection: keep-alive\r\nKeep-Alive: timeout=5\r\n\r\n`;
  assert.equal(await readJsonAnswer(call), head.length + jsonMessage.length);
});

for (const [what, status, body] of [
  ["another status", 500, jsonMessage],
  ["another body", 200, "{}"],
] as const) {
  test(`an answer with ${what} is refused`, async (t) => {
    const call = await serve(t, (_, res) => res.writeHead(status).end(body));
    await assert.rejects(readJsonAnswer(call), new RegExp(`${status} ${body}`));
  });
}

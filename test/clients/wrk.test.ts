/** What wrk says of a load is what a server saw of it: the figures of the bench are made of that. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { once } from "node:events";
import { createServer, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { before, type TestContext, test } from "node:test";
import { echoPath, jsonMessage } from "../bench/echo.ts";
import { readJsonAnswer } from "../bench/json-call.ts";
import { runTimedLoad } from "../bench/wrk.ts";
import { closedPort } from "../harness/closed-port.ts";

const connections = 4;
const load = { connections, seconds: 0.3 };

before(() => {
  // It says its version and ends with 1.
  const { stdout } = spawnSync("wrk", ["--version"], { encoding: "utf8" });
  assert.match(stdout ?? "", /^wrk /, "wrk is missing: install Debian's package of that name");
});

/** Loads a server that answers the n-th call so; the first is not wrk's. Returns what wrk says, and the calls seen. */
async function loadServer(t: TestContext, answer: (res: ServerResponse, n: number) => void) {
  let seen = -1;
  const server = createServer(async (req, res) => {
    let body = "";
    for await (const chunk of req.setEncoding("utf8")) body += chunk;
    const asked = `${req.method} ${req.url} ${req.headers["content-type"]} ${req.headers["x-api-key"]} ${body}`;
    assert.equal(asked, `POST ${echoPath} application/json t ${jsonMessage}`);
    seen++;
    answer(res, seen);
  });
  await once(server.listen(0, "127.0.0.1"), "listening");
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  const call = { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, token: "t" };
  const target = { ...call, answerBytes: await readJsonAnswer(call) };
  const began = performance.now();
  const result = await runTimedLoad(target, load);
  return { result, seen, tookS: (performance.now() - began) / 1000 };
}

/** How often every so many-th of the calls comes. */
const every = (step: number, calls: number) => Math.floor(calls / step);

test("right answers are ok, and what the server saw lies between them and what was begun", async (t) => {
  const { result, seen, tookS } = await loadServer(t, answerRight);
  assert.ok(result.ok > 100 && result.failed === 0, JSON.stringify(result));
  assert.ok(seen >= result.ok && seen <= result.begun, `${seen} seen, ${JSON.stringify(result)}`);
  assert.equal(result.begun, result.ok + connections);
  assert.ok(result.seconds >= 0.1 && result.seconds <= tookS, `${result.seconds} s of ${tookS}`);
  assert.ok(result.p50Ms > 0 && result.p50Ms <= result.p99Ms, JSON.stringify(result));
});

test("answers with another status failed", async (t) => {
  const { result, seen } = await loadServer(t, (res, n) =>
    n % 10 === 9 ? res.writeHead(503).end(jsonMessage) : answerRight(res),
  );
  const failed = every(10, seen + 1);
  assert.ok(
    failed > 10 && result.failed <= failed && result.failed >= failed - connections,
    `${failed} wrong`,
  );
  assert.ok(seen >= result.ok + result.failed && seen <= result.begun, `${seen} seen`);
});

test("calls failed whose connection was cut, and wrk goes on with another one", async (t) => {
  const { result, seen } = await loadServer(t, (res, n) =>
    n % 10 === 9 ? res.socket?.destroy() : answerRight(res),
  );
  const failed = every(10, seen + 1);
  assert.ok(failed > 10 && result.failed <= failed && result.failed >= failed - connections, `${failed} cut`);
  assert.ok(seen >= result.ok + result.failed && seen <= result.begun, `${seen} seen`);
});

test("an answer that ends its connection is ok", async (t) => {
  const { result, seen } = await loadServer(t, (res, n) => {
    if (n % 10 === 9) res.setHeader("connection", "close");
    answerRight(res);
  });
  assert.ok(result.ok > 100 && seen >= result.ok && seen <= result.begun, JSON.stringify(result));
});

test("shorter answers are noticed", async (t) => {
  const { result } = await loadServer(t, (res, n) =>
    n % 10 === 9 ? res.writeHead(200, { "content-length": 2 }).end("{}") : answerRight(res),
  );
  assert.ok(result.ok > 100 && result.failed > 0, JSON.stringify(result));
});

test("who answers nobody failed all that was begun", async (t) => {
  const { result, seen } = await loadServer(t, (res, n) => n === 0 && answerRight(res));
  assert.deepEqual([result.ok, result.failed, result.begun, seen], [0, 4, 4, 4]);
});

test("where nobody listens, it says so", async () => {
  const target = { url: `http://127.0.0.1:${await closedPort()}`, token: "t", answerBytes: 150 };
  await assert.rejects(runTimedLoad(target, load), /unable to connect.*refused/);
});

function answerRight(res: ServerResponse): void {
  const headers = { "content-type": "application/json", "content-length": jsonMessage.length };
  res.writeHead(200, headers).end(jsonMessage);
}

/** Between the gate and the handler: a body that takes its time. */
import assert from "node:assert/strict";
import http from "node:http";
import { after, before, test } from "node:test";
import { createUserAndKey, startServer, type TestServer } from "../harness/server.ts";
import { until } from "../harness/until.ts";

let latchkey: TestServer;
before(async () => {
  latchkey = await startServer();
});
after(() => latchkey.close());

/** Begins an UpdateProfile and holds back the end of its body. */
function beginUpdate(headers: http.OutgoingHttpHeaders) {
  const body = JSON.stringify({ bio: "too late" });
  const request = http.request(`${latchkey.url}/api.users.UserService/UpdateProfile`, {
    method: "POST",
    headers: { "content-type": "application/json", "content-length": body.length, ...headers },
  });
  const answered = new Promise<{ status: number | undefined; text: string }>((resolve, reject) => {
    request.once("error", reject);
    request.once("response", async (response) => {
      let text = "";
      for await (const chunk of response) text += chunk;
      resolve({ status: response.statusCode, text });
    });
  });
  request.write(body.slice(0, 5));
  return { finish: () => request.end(body.slice(5)), answered };
}

test("a key that is revoked while the body comes in does not reach the handler", async () => {
  const { apiKeyId, token, userId } = await createUserAndKey(latchkey.asStaff, "slow");
  const { finish, answered } = beginUpdate({ "x-api-key": token });
  await latchkey.asStaff.keys.revokeApiKey({ id: apiKeyId });
  await until(
    () =>
      latchkey
        .as(token)
        .users.getUser({ userId })
        .then(() => "served", String),
    (outcome) => outcome.includes("revoked"),
  );
  finish();
  const { status, text } = await answered;
  assert.equal(status, 401);
  assert.match(text, /was revoked/);
  assert.equal((await latchkey.asStaff.users.getUser({ userId })).bio, "");
});

test("two different authorization headers are malformed, whichever comes first", async () => {
  const ada = await createUserAndKey(latchkey.asStaff, "ada");
  const eve = await createUserAndKey(latchkey.asStaff, "eve");
  const call = (...authorization: string[]) => {
    const { finish, answered } = beginUpdate({ authorization: authorization as never });
    finish();
    return answered;
  };
  assert.equal((await call(`Bearer ${ada.token}`)).status, 200);
  for (const pair of [
    [`Bearer ${ada.token}`, `Bearer ${eve.token}`],
    [`Bearer ${eve.token}`, "Bearer nonsense"],
    ["Basic YTpi", `Bearer ${ada.token}`],
    ["Basic YTpi", "Bearer nonsense"],
  ]) {
    const { status, text } = await call(...pair);
    assert.equal(status, 401, pair.map((value) => value.slice(0, 12)).join(" and "));
    assert.match(text, /invalid API key/);
  }
});

test("anonymous callers can hold half of the room and no more; health is always answered", async (t) => {
  const small = await startServer({ maxConcurrentRpcs: 8 });
  t.after(() => small.close());
  const { token } = await createUserAndKey(small.asStaff, "known");
  const body = '{"userId":"1"}';
  const hold = (headers: http.OutgoingHttpHeaders) =>
    new Promise<{ status: number | undefined; request: http.ClientRequest }>((resolve) => {
      const request = http.request(`${small.url}/api.users.UserService/GetUser`, {
        method: "POST",
        headers: { "content-type": "application/json", "content-length": body.length, ...headers },
      });
      request.on("error", () => {});
      request.once("response", (response) => {
        response.resume();
        resolve({ status: response.statusCode, request });
      });
      request.flushHeaders();
    });
  const held = Array.from({ length: 20 }, () => hold({}));
  // Those beyond the half are answered at once, the others wait for their bodies.
  const refused = await Promise.race(held);
  assert.equal(refused.status, 429);
  assert.equal((await small.as(token).users.getUser({ userId: 1n })).username, "admin");
  const health = await fetch(`${small.url}/grpc.health.v1.Health/Check`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: "{}",
  });
  assert.equal(health.status, 200);
});

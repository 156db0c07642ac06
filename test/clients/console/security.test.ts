/** What others put into the console's data, and what other sites try with a visitor's session. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { test } from "node:test";
import { createUserAndKey, secretKey } from "../../harness/server.ts";
import { until } from "../../harness/until.ts";
import { latchkey, openConsole, person } from "./chromium.ts";

openConsole("");

/** Markup that runs a script if it is taken for markup, in each of the usual ways. */
const attack = `"><img src=x onerror="window.attacked=1"><svg onload=window.attacked=1></svg><script>window.attacked=1</script>{{constructor.constructor('window.attacked=1')()}}`;

test("whatever a name, description, note, user agent or error message holds stays text", async () => {
  const { page } = person;
  const mallory = await createUserAndKey(latchkey.asStaff, "mallory");
  await latchkey.asStaff.admin.updateUser({
    user: { id: mallory.userId, bio: attack },
    updateMask: { paths: ["bio"] },
  });
  const name = attack.slice(0, 100);
  const { apiKey } = await latchkey.asStaff.keys.createApiKey({
    userId: mallory.userId,
    name,
    description: attack,
  });
  const id = apiKey?.id ?? "";
  await latchkey.asStaff.keys.revokeApiKey({ id, note: attack });
  // What a caller alone decides: the user agent, and through the error message what was asked for.
  await fetch(`${latchkey.url}/latchkey.v1.SessionService/CreateSession`, {
    method: "POST",
    headers: { "content-type": "application/json", "user-agent": attack },
    body: JSON.stringify({ token: secretKey }),
  });
  // Once it has been written.
  await until(
    () => latchkey.sql`
      UPDATE request_logs SET error_message = ${attack}, user_agent = ${attack}, request_id = ${attack}, code = 13,
        service = ${attack}, method = ${attack}
      WHERE method = 'UpdateUser'`,
    ({ count }) => count > 0,
  );
  const row = await until(
    () => latchkey.asStaff.logs.listRequestLogs({ filter: { errorText: "onerror" } }),
    ({ requestLogs }) => requestLogs.length > 0,
  );
  const rowId = row.requestLogs[0]?.id;
  await latchkey.sql`UPDATE users SET username = ${name} WHERE id = ${String(mallory.userId)}`;

  const shown: [path: string, times: number][] = [
    ["", 1],
    ["/keys", 1],
    [`/keys/${id}`, 3],
    ["/logs?errors=1", 2],
    [`/logs?row=${rowId}`, 3],
    ["/users", 1],
    [`/users/${mallory.userId}`, 2],
    ["/users/1", 1],
    ["/audit", 1],
  ];
  for (const [path, times] of shown) {
    await person.open(path);
    await page.getByRole("heading", { level: 1 }).waitFor();
    await until(
      () => page.getByText("onerror=").count(),
      (count) => count >= times,
    );
    assert.equal(await page.evaluate("window.attacked"), undefined, `at ${path}`);
    assert.equal(await page.locator("img[src=x], svg[onload]").count(), 0, `at ${path}`);
  }
  person.assertNothingOdd();
});

test("a link to the sign-in page leads to nowhere but the console", async () => {
  const { page } = person;
  await page.context().clearCookies();
  await page.evaluate("localStorage.clear()");
  for (const next of [
    "https://evil.example/",
    "//evil.example/",
    "/\\evil.example",
    "javascript:window.attacked=1",
  ]) {
    await person.open(`/sign-in?next=${encodeURIComponent(next)}`);
    await person.signIn();
    assert.ok(page.url().startsWith(`${latchkey.url}/console`), page.url());
    assert.equal(await page.evaluate("window.attacked"), undefined);
    await page.context().clearCookies();
    await page.evaluate("localStorage.clear()");
  }
  person.assertNothingOdd();
});

/** A page of a host that posts, in the ways that a browser lets any page post, a request to create a key. */
async function openSite(target: string): Promise<{ server: Server; port: number }> {
  const body = JSON.stringify({ userId: "1", name: "forged" });
  const server = createServer((_req, res) => {
    res.setHeader("content-type", "text/html; charset=utf-8").end(`<!doctype html>
<form method="post" enctype="text/plain" action="${target}" target="frame">
  <input type="hidden" name='{"userId":"1","name":"forged","description":"' value='"}'>
</form>
<iframe name="frame"></iframe>
<script>
  document.forms[0].submit();
  const types = ["text/plain", "application/json", "application/grpc-web+proto", "application/x-www-form-urlencoded"];
  const posts = types.map((type) => fetch("${target}", {
    method: "POST", mode: "no-cors", credentials: "include",
    headers: { "content-type": type }, body: ${JSON.stringify(body)},
  }).catch(() => {}));
  navigator.sendBeacon("${target}", ${JSON.stringify(body)});
  Promise.all(posts).then(() => { document.title = "done"; });
</script>`);
  });
  await once(server.listen(0), "listening");
  return { server, port: (server.address() as AddressInfo).port };
}

test("a form or script of another site, and of another port of this one, changes nothing", async () => {
  const { server, port } = await openSite(`${latchkey.url}/latchkey.v1.ApiKeyService/CreateApiKey`);
  const page = await person.page.context().newPage();
  const statuses: number[] = [];
  const cookies: string[] = [];
  page.on("response", async (response) => {
    if (!response.url().endsWith("/CreateApiKey")) return;
    statuses.push(response.status());
    cookies.push((await response.request().allHeaders()).cookie ?? "");
  });
  try {
    // localhost is another site; another port of 127.0.0.1 is the same site, whose cookies come along.
    for (const host of ["localhost", "127.0.0.1"]) {
      await page.goto(`http://${host}:${port}/`);
      await page.waitForFunction(`document.title === "done"`);
    }
    // The form, four scripts and a beacon, from each of both; they came, and were refused.
    await until(
      () => statuses.length,
      (count) => count >= 12,
    );
    assert.ok(
      statuses.every((status) => status >= 400),
      statuses.join(),
    );
    assert.ok(
      cookies.some((cookie) => cookie.includes("latchkey_session")),
      "the session came along with none",
    );
    assert.deepEqual((await latchkey.asStaff.keys.listApiKeys({ search: "forged" })).apiKeys, []);
  } finally {
    server.close();
    server.closeAllConnections();
  }
});

test("no other site may frame the console", async () => {
  const server = createServer((_req, res) => {
    res.setHeader("content-type", "text/html").end(`<iframe src="${latchkey.url}/console/keys"></iframe>`);
  });
  await once(server.listen(0), "listening");
  const page = await person.page.context().newPage();
  try {
    const failed = page.waitForEvent("console", (message) => /frame/i.test(message.text()));
    await page.goto(`http://localhost:${(server.address() as AddressInfo).port}/`);
    assert.match((await failed).text(), /frame-ancestors|X-Frame-Options/i);
  } finally {
    server.close();
    server.closeAllConnections();
  }
});

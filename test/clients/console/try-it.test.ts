/** "Try it": forms made from messages, and calls with another's token. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { createUserAndKey } from "../../harness/server.ts";
import { until } from "../../harness/until.ts";
import { latchkey, openConsole, person } from "./chromium.ts";

openConsole("/try");

const send = () => person.page.getByRole("button", { name: "Send" }).click();
const answer = () => person.page.getByRole("region", { name: "Answer" });

test("a method is chosen and called as nobody, as a key, and never as the session", async () => {
  const { page } = person;
  const { userId, token, apiKeyId } = await createUserAndKey(latchkey.asStaff, "tried");
  await page.getByRole("combobox", { name: "Method" }).fill("GetUser");
  await page.getByRole("option", { name: "GetUser" }).first().click();
  await page.waitForURL(/method=api\.users\.UserService(%2F|\/)GetUser/);
  await page.getByText("The user's id, 1 or more.").waitFor();
  await page.getByLabel("user_id").fill(String(userId));
  await send();
  await answer().getByText("ok", { exact: true }).waitFor();
  await answer()
    .getByText(/"email": ""/)
    .waitFor();
  await page.getByLabel("Token").fill(token);
  await send();
  await answer()
    .getByText(/"email": "tried@example.com"/)
    .waitFor();
  await answer().getByRole("tab", { name: "Headers" }).click();
  await answer().getByText("x-request-id").waitFor();
  await until(
    () => latchkey.asStaff.keys.getApiKey({ id: apiKeyId }),
    ({ apiKey }) => apiKey?.requestCount === 1n,
  );
  await page.getByLabel("user_id").fill("999999");
  await send();
  await answer().getByText("not_found", { exact: true }).waitFor();
  await answer().getByText("user 999999 not found").waitFor();
  const snippets = page.getByRole("region", { name: "The same call elsewhere" });
  await snippets.getByText(/-H "x-api-key: \$TOKEN"/).waitFor();
  await snippets.getByText(/'\{"userId":"999999"\}'/).waitFor();
  await snippets.getByRole("tab", { name: "grpcurl" }).click();
  await snippets.getByText(/grpcurl -plaintext/).waitFor();
  await snippets.getByRole("tab", { name: "TypeScript" }).click();
  await snippets.getByText(/client\.getUser\(fromJson\(GetUserRequestSchema/).waitFor();
  assert.ok(!(await page.content()).includes(token));
  person.assertNothingOdd();
});

test("nested, repeated, enum, time, duration and mask fields make the message that they show", async () => {
  const { page } = person;
  const { userId, token } = await createUserAndKey(latchkey.asStaff, "former");
  await person.open("/try?method=latchkey.v1.ApiKeyService/CreateApiKey");
  await page.getByLabel("Token").fill(token);
  await page.getByLabel("user_id").fill(String(userId));
  await page.getByRole("textbox", { name: "name", exact: true }).fill("made in a form");
  await page.getByRole("combobox", { name: "type" }).click();
  await page.getByRole("option", { name: "API_KEY_TYPE_WEBHOOK" }).click();
  await page.getByLabel("expires_at").fill("2099-01-02T03:04:05");
  for (const pattern of ["api.users.*", "billing.v1.InvoiceService/Pay"]) {
    await page.getByRole("button", { name: "Add to allowed_methods" }).click();
    await page
      .getByRole("textbox", { name: /^allowed_methods \d/ })
      .last()
      .fill(pattern);
  }
  await page.getByRole("button", { name: "Remove allowed_methods 2" }).click();
  await send();
  await answer().getByText("ok", { exact: true }).waitFor();
  const { apiKeys } = await latchkey.asStaff.keys.listApiKeys({ search: "made in a form" });
  assert.deepEqual(
    apiKeys.map(({ type, allowedMethods, expiresAt }) => [type, allowedMethods, expiresAt?.seconds]),
    [[3, ["api.users.*"], BigInt(Date.parse("2099-01-02T03:04:05") / 1000)]],
  );

  await person.open("/try?method=latchkey.v1.ApiKeyService/UpdateApiKey");
  await page.getByLabel("Token").fill(token);
  await page.getByRole("button", { name: "Set api_key" }).click();
  const nested = page.getByRole("group", { name: /^api_key / });
  await nested.getByRole("textbox", { name: "id", exact: true }).fill(apiKeys[0]?.id ?? "");
  await nested.getByRole("textbox", { name: "description", exact: true }).fill("changed in a form");
  await page.getByLabel("update_mask").fill("description");
  await page.getByRole("radiogroup", { name: "Edit the message as" }).getByText("JSON").click();
  const json = JSON.parse(await page.getByLabel("Message in JSON").inputValue()) as object;
  assert.deepEqual(json, {
    apiKey: { id: apiKeys[0]?.id, description: "changed in a form" },
    updateMask: "description",
  });
  await send();
  await answer()
    .getByText(/"description": "changed in a form"/)
    .waitFor();
  person.assertNothingOdd();
});

test("what makes no message is said before anything is sent, and a stream shows each message and can be stopped", async () => {
  const { page } = person;
  await person.open("/try?method=api.users.UserService/ListUsers");
  await page.getByLabel("limit").fill("many");
  await send();
  await page.getByRole("alert").waitFor();
  await page.getByLabel("limit").fill("2");
  await send();
  await answer().getByText("2 messages").waitFor();

  const { token } = await createUserAndKey(latchkey.asStaff, "tailer");
  await person.open("/try?method=latchkey.v1.RequestLogService/TailRequestLogs");
  await page.getByLabel("Token").fill(token);
  await send();
  await answer().getByText("Running…").waitFor();
  await page.getByRole("button", { name: "Stop" }).click();
  await answer().getByText("canceled", { exact: true }).waitFor();
  person.assertNothingOdd();
});

/** Keys in the console: made, found, changed, rotated and ended; and what clients then get. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Client, credentials, Metadata, type ServiceError, status } from "@grpc/grpc-js";
import { ApiKeyType } from "../../../src/gen/latchkey/v1/api_key_service_pb.js";
import { runCurl, runGrpcurl } from "../../harness/commands.ts";
import { noteSecret } from "../../harness/secrets.ts";
import { createUserAndKey } from "../../harness/server.ts";
import { until } from "../../harness/until.ts";
import { browser, latchkey, openConsole, openPerson, person } from "./chromium.ts";

openConsole("");

/** What grpc-js gets for api.users.UserService/GetUser of user 1. */
async function getUserOverGrpc(token: string): Promise<status> {
  const client = new Client(`127.0.0.1:${latchkey.port}`, credentials.createInsecure());
  const metadata = new Metadata();
  metadata.set("x-api-key", token);
  try {
    return await new Promise((resolve) => {
      client.makeUnaryRequest(
        "/api.users.UserService/GetUser",
        () => Buffer.from([8, 1]),
        (bytes) => bytes,
        {},
        metadata,
        (error: ServiceError | null) => resolve(error?.code ?? status.OK),
      );
    });
  } finally {
    client.close();
  }
}

async function shownToken(): Promise<string> {
  return noteSecret((await person.page.getByTestId("token").textContent()) ?? "");
}

test("a key that is created works from grpc-js, as far as it was allowed, and its token is shown once", async () => {
  const { page } = person;
  const { userId } = await createUserAndKey(latchkey.asStaff, "webhooks");
  await page.getByRole("link", { name: "API keys" }).click();
  await page.getByRole("main").getByRole("link", { name: "Create API key" }).click();
  await page.getByLabel("Name").fill("partner webhook");
  await page.getByRole("combobox", { name: "User" }).fill("webhooks");
  await page.getByRole("option", { name: "webhooks" }).click();
  await page.getByRole("combobox", { name: "Type" }).click();
  await page.getByRole("option", { name: "Webhook" }).click();
  await page.getByRole("radio", { name: "30 days" }).check();
  await page.getByRole("radio", { name: "Only these" }).check();
  await page.getByRole("checkbox", { name: "api.users.UserService/GetUser" }).check();
  await page.getByRole("combobox", { name: "Allowed addresses" }).fill("127.0.0.0/8");
  await page.keyboard.press("Enter");
  await page.getByRole("button", { name: "Create API key" }).click();
  await page.getByRole("heading", { name: "“partner webhook” is ready" }).waitFor();

  const token = await shownToken();
  await page.getByRole("button", { name: "Copy the token" }).click();
  assert.equal(await page.evaluate("navigator.clipboard.readText()"), token);
  const command = (await page.getByLabel("curl command", { exact: true }).textContent()) ?? "";
  assert.ok(command.includes(`-H 'x-api-key: ${token}'`) && command.includes("UserService/GetUser"), command);
  assert.match(command, /-d '\{"userId":"1"\}'/);
  const user = await runCurl(command);
  assert.equal(user.id, "1");
  await page.getByRole("tab", { name: "grpcurl" }).click();
  const grpcurl = await page.getByLabel("grpcurl command", { exact: true }).textContent();
  assert.deepEqual(await runGrpcurl(grpcurl ?? ""), user);

  assert.equal(await getUserOverGrpc(token), status.OK);
  const refused = latchkey.as(token).users.updateProfile({ bio: "" });
  await assert.rejects(refused, /may not call this method/);

  await page.getByRole("link", { name: /to the key/ }).click();
  await page.getByRole("heading", { name: "partner webhook" }).waitFor();
  await page.getByText("api.users.UserService/GetUser", { exact: true }).waitFor();
  const id = page.url().split("/").at(-1) ?? "";
  const { apiKey } = await latchkey.asStaff.keys.getApiKey({ id });
  assert.equal(apiKey?.userId, userId);
  assert.equal(apiKey.type, ApiKeyType.WEBHOOK);
  assert.deepEqual(apiKey.allowedMethods, ["api.users.UserService/GetUser"]);
  assert.deepEqual(apiKey.allowedAddresses, ["127.0.0.0/8"]);
  const days = (Number(apiKey.expiresAt?.seconds) - Date.now() / 1000) / 86_400;
  assert.ok(days > 29.9 && days <= 30, `${days} days`);

  // There is no way back to the token.
  for (const go of [() => page.goBack(), () => page.goForward(), () => page.reload()]) {
    await go();
    await page.waitForLoadState("networkidle");
    assert.ok(!(await page.content()).includes(token));
  }
  person.assertNothingOdd();
});

test("a token that nobody copied goes off the page by no way that does not ask first", async () => {
  const { page } = person;
  const question = page.getByRole("dialog", { name: "Leave without the token?" });
  /** Stays, with the keyboard alone, and finds the token where it was. */
  const stay = async (token: string) => {
    await question.waitFor();
    await page.keyboard.press("Escape");
    await question.waitFor({ state: "hidden" });
    assert.equal(await page.getByTestId("token").textContent(), token);
  };
  const go = (name: string) => page.getByRole("navigation").getByRole("link", { name }).click();
  const dismissed: string[] = [];
  page.on("dialog", (dialog) => {
    dismissed.push(dialog.type());
    void dialog.dismiss();
  });

  await person.open("/keys");
  await page.getByRole("main").getByRole("link", { name: "Create API key" }).click();
  await page.getByLabel("Name").fill("not copied");
  await page.getByRole("button", { name: "Create API key" }).click();
  const made = await shownToken();
  await go("Overview");
  await stay(made);
  await page.goBack();
  await stay(made);
  await page.getByRole("button", { name: "Create another" }).click();
  await stay(made);
  await page.evaluate("location.reload()");
  await until(
    () => dismissed,
    ([type]) => type === "beforeunload",
  );
  assert.equal(await page.getByTestId("token").textContent(), made);
  await go("Request logs");
  await question.getByRole("button", { name: "Leave without it" }).click();
  await page.getByRole("heading", { name: "Request logs" }).waitFor();

  const { apiKeyId } = await createUserAndKey(latchkey.asStaff, "careless");
  await person.open(`/keys/${apiKeyId}`);
  await page.getByRole("button", { name: "Rotate" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Rotate" }).click();
  const rotated = await shownToken();
  await page.keyboard.press("Escape");
  await stay(rotated);
  await page.getByRole("dialog", { name: "The new token" }).getByRole("button", { name: "Close" }).click();
  await stay(rotated);
  // Copied by hand: nothing is left to ask.
  await page.getByTestId("token").selectText();
  await page.keyboard.press("ControlOrMeta+c");
  await page.keyboard.press("Escape");
  await page.getByRole("dialog").waitFor({ state: "hidden" });
  assert.equal(await page.getByTestId("token").count(), 0);
  await go("Overview");
  await page.getByRole("heading", { name: "Overview" }).waitFor();
  person.assertNothingOdd();
});

test("a form that is not ready says what is missing, and what the server refuses", async () => {
  const { page } = person;
  await person.open("/keys/new");
  await page.getByRole("button", { name: "Create API key" }).click();
  await page.getByText("Give the key a name that tells what it is for.").waitFor();
  await page.waitForFunction(`document.activeElement?.getAttribute("aria-invalid") === "true"`);
  await page.getByLabel("Name").fill("nowhere");
  await page.getByRole("combobox", { name: "Allowed addresses" }).fill("300.0.0.1");
  await page.keyboard.press("Enter");
  await page.getByRole("button", { name: "Create API key" }).click();
  await page
    .getByRole("alert")
    .getByText(/300\.0\.0\.1/)
    .waitFor();
  assert.equal(await page.getByLabel("Name").inputValue(), "nowhere");
  person.assertNothingOdd();
});

test("the listing is searched, filtered, sorted and paged, all in the address", async () => {
  const { page } = person;
  const { userId } = await createUserAndKey(latchkey.asStaff, "collector");
  for (let n = 0; n < 60; n++) {
    const name = `item ${String(n).padStart(2, "0")}`;
    await latchkey.asStaff.keys.createApiKey({
      userId,
      name,
      type: n % 2 ? ApiKeyType.CLI : ApiKeyType.SERVICE,
    });
  }
  const names = () =>
    page.getByRole("table", { name: "API keys" }).locator("tbody td:nth-child(2)").allTextContents();
  const shows = (first: string, count: number) =>
    until(names, (found) => found[0] === first && found.length === count);

  await person.open("/keys");
  await page.getByRole("searchbox", { name: "Search keys" }).fill("item");
  await page.waitForURL(/q=item/);
  await shows("item 59", 50);
  await page.getByRole("button", { name: "Name" }).click();
  await page.waitForURL(/sort=name&dir=asc/);
  await shows("item 00", 50);
  await page.getByRole("button", { name: "Next page" }).click();
  await page.waitForURL(/page=/);
  await shows("item 50", 10);
  const shared = page.url();
  await page.getByRole("button", { name: "Previous page" }).click();
  await shows("item 00", 50);
  await page.goto(shared);
  await shows("item 50", 10);
  await page.getByRole("combobox", { name: "Type" }).click();
  await page.getByRole("option", { name: "CLI" }).click();
  await page.waitForURL(/type=cli/);
  await shows("item 01", 30);
  await page.getByRole("link", { name: /Revoked/ }).click();
  await page.getByText("No key matches").waitFor();
  await page.getByRole("button", { name: "Clear filters" }).last().click();
  await shows("item 00", 50);
  person.assertNothingOdd();
});

test("a token that is pasted into a search finds its key, and reaches neither the address nor a request", async () => {
  const { page } = person;
  const { token, apiKeyId } = await createUserAndKey(latchkey.asStaff, "pasted");
  await createUserAndKey(latchkey.asStaff, "beside");
  const sent: string[] = [];
  page.on("request", (request) => sent.push(`${request.url()} ${request.postData() ?? ""}`));
  await person.open("/keys");
  await page.getByRole("link", { name: "key of beside" }).waitFor();
  await page.getByRole("searchbox", { name: "Search keys" }).fill(` ${token} `);
  await page.waitForURL(/q=lk_\w{6}$/);
  await page.getByRole("link", { name: "key of beside" }).waitFor({ state: "detached" });
  await page.getByRole("link", { name: "key of pasted" }).waitFor();
  await person.open("/logs");
  await page.getByRole("combobox", { name: "Key" }).fill(token);
  await page.getByRole("option", { name: /key of pasted/ }).click();
  await page.waitForURL(new RegExp(apiKeyId));
  assert.ok(!sent.some((request) => request.includes(token)), "the token was sent");
  assert.ok(!(await page.content()).includes(token), "the token is in the page");
  person.assertNothingOdd();
});

test("a key is rotated with a grace period: both tokens work and both keys' traffic is shown, until the old one is ended", async () => {
  const { page } = person;
  const { apiKeyId, token } = await createUserAndKey(latchkey.asStaff, "rotating");
  for (let n = 0; n < 3; n++) assert.equal(await getUserOverGrpc(token), status.OK);
  await person.open(`/keys/${apiKeyId}`);
  await page.getByRole("button", { name: "Rotate" }).click();
  await page.getByRole("dialog").getByRole("radio", { name: "1 hour" }).check();
  await page.getByRole("dialog").getByRole("button", { name: "Rotate" }).click();
  const newToken = await shownToken();
  await page.getByRole("button", { name: /to the new key/ }).click();

  // What it did before is no sign that a client has not switched.
  const rotation = page.getByRole("region", { name: "Rotation" });
  await rotation.getByText(/The key before this one was replaced.* It made no requests since/).waitFor();
  await rotation.getByRole("img", { name: /of the old key/ }).waitFor();
  await rotation.getByRole("img", { name: /of the new key/ }).waitFor();
  assert.deepEqual([await getUserOverGrpc(token), await getUserOverGrpc(newToken)], [status.OK, status.OK]);
  await rotation.getByText(/some client has not switched yet/).waitFor();

  const end = rotation.getByRole("button", { name: "End the old key now" });
  await end.waitFor();
  await rotation
    .getByRole("heading", { name: /Old key/ })
    .getByRole("link")
    .click();
  await page.waitForURL(new RegExp(apiKeyId));
  await page.getByText(/This key was replaced.* some client has not switched yet/).waitFor();
  await page.goBack();
  await end.click();
  const dialog = page.getByRole("dialog");
  await dialog.getByText(/requests? in the last 24 hours/).waitFor();
  await dialog.getByText(`${token.slice(0, 9)}…`).waitFor();
  assert.match(await dialog.getByRole("combobox", { name: "Reason" }).inputValue(), /^Rotated/);
  await dialog.getByRole("button", { name: "Revoke key" }).click();
  await page.getByText("Revoked: 1 key.").waitFor();
  await rotation.getByText("The key before this one has ended: the rotation is complete.").waitFor();
  assert.equal(await end.count(), 0);

  await until(
    () => getUserOverGrpc(token),
    (code) => code === status.UNAUTHENTICATED,
  );
  assert.equal(await getUserOverGrpc(newToken), status.OK);
  await rotation
    .getByText(/has ended\. \d+ calls? with the old token (was|were) refused since, .* has not switched\./)
    .waitFor();
  await person.open(`/keys/${apiKeyId}`);
  // A key that is revoked has no expiry to wait for.
  const expires = page.getByText("Expires", { exact: true }).locator("xpath=..");
  assert.equal(await expires.textContent(), "Expires–");
  person.assertNothingOdd();
});

test("a key's page tells why its calls fail, which, and since when", async () => {
  const { page } = person;
  const { userId } = await createUserAndKey(latchkey.asStaff, "failing");
  const { apiKey, token } = await latchkey.asStaff.keys.createApiKey({
    userId,
    name: "key that fails",
    allowedMethods: ["api.users.UserService/GetUser"],
  });
  const id = apiKey?.id ?? "";
  const { users } = latchkey.as(noteSecret(token));
  await users.getUser({ userId });
  await person.open(`/keys/${id}`);
  const failures = page.getByRole("region", { name: "Failures" });
  await failures.getByText("Nothing failed in the last 24 hours.").waitFor();
  await users.getUser({ userId: 999_999n }).catch(() => {});
  for (let n = 0; n < 2; n++) await users.updateProfile({ bio: "" }).catch(() => {});
  await until(
    () => latchkey.asStaff.logs.listRequestLogs({ filter: { apiKeyId: id, errorsOnly: true } }),
    ({ requestLogs }) => requestLogs.length === 3,
  );
  await page.reload();

  const rows = (name: string) => failures.getByRole("table", { name }).getByRole("row").allTextContents();
  await failures.getByText(/^Last failed now: /).waitFor();
  await until(
    () => rows("Failures by reason"),
    (found) => found.length === 3,
  );
  assert.deepEqual(await rows("Failures by reason"), ["NameFailures", "Method not allowed2", "not_found1"]);
  assert.deepEqual(await rows("Failures by method"), [
    "NameFailuresErrors",
    "UpdateProfileapi.users.UserService2100%",
    "GetUserapi.users.UserService150%",
  ]);
  const recent = page.getByRole("region", { name: "Recent calls" });
  await recent.getByText("user 999999 not found").waitFor();

  await recent.getByRole("link", { name: "Failures" }).click();
  const logs = page.getByRole("table", { name: "Request logs" }).locator("tbody tr");
  await until(
    () => logs.count(),
    (count) => count === 3,
  );
  await page.goBack();
  await failures.getByRole("link", { name: "Method not allowed" }).click();
  await page.waitForURL(/reason=METHOD_NOT_ALLOWED/);
  await until(
    () => logs.count(),
    (count) => count === 2,
  );
  person.assertNothingOdd();
});

test("revoking the key that others are signed in with ends their sessions and open streams", async () => {
  const { page } = person;
  const { apiKeyId, token } = await createUserAndKey(latchkey.asStaff, "leaver");
  const leaver = await openPerson(browser, latchkey.url);
  try {
    await leaver.signIn(token);
    await person.open(`/keys/${apiKeyId}`);
    await page.getByRole("button", { name: "Revoke" }).click();
    await page.getByLabel("Note").fill("left the company");
    await page.getByRole("dialog").getByRole("button", { name: "Revoke key" }).click();
    await page.getByText("left the company").waitFor();
    await leaver.page.getByRole("link", { name: "API keys" }).click();
    await leaver.page.getByRole("dialog", { name: "Your session has ended" }).waitFor();
    await until(
      () => getUserOverGrpc(token),
      (code) => code === status.UNAUTHENTICATED,
    );
  } finally {
    await leaver.close();
  }
  person.assertNothingOdd();
});

test("several keys are revoked at once, with one reason", async () => {
  const { page } = person;
  const { userId, token } = await createUserAndKey(latchkey.asStaff, "bulk");
  for (const name of ["bulk one", "bulk two"]) await latchkey.asStaff.keys.createApiKey({ userId, name });
  await person.open("/keys?q=bulk");
  await page.getByRole("checkbox", { name: "Select bulk one" }).check();
  await page.getByRole("checkbox", { name: "Select key of bulk" }).check();
  await page.getByRole("button", { name: "Revoke 2 keys" }).click();
  const dialog = page.getByRole("dialog", { name: "Revoke 2 keys?" });
  await dialog.getByRole("combobox", { name: "Reason" }).click();
  await page.getByRole("option", { name: /Unused/ }).click();
  await dialog.getByRole("button", { name: "Revoke 2 keys" }).click();
  await page.getByText("Revoked: 2 keys.").waitFor();
  const { apiKeys } = await latchkey.asStaff.keys.listApiKeys({ userId });
  assert.deepEqual(
    apiKeys.map(({ name, revokedAt }) => [name, revokedAt !== undefined]),
    [
      ["bulk two", false],
      ["bulk one", true],
      ["key of bulk", true],
    ],
  );
  await until(
    () => getUserOverGrpc(token),
    (code) => code === status.UNAUTHENTICATED,
  );
  person.assertNothingOdd();
});

test("only what was changed of a key is changed", async () => {
  const { page } = person;
  const { apiKeyId } = await createUserAndKey(latchkey.asStaff, "editor");
  await person.open(`/keys/${apiKeyId}/edit`);
  await page.getByRole("radio", { name: "Only these" }).check();
  await page.getByLabel("Add a pattern").fill("billing.v1.*");
  await page.getByLabel("Add a pattern").press("Enter");
  // Somebody else renames it meanwhile.
  await latchkey.asStaff.keys.updateApiKey({
    apiKey: { id: apiKeyId, name: "renamed" },
    updateMask: { paths: ["name"] },
  });
  await page.getByRole("button", { name: "Save changes" }).click();
  await page.getByRole("heading", { name: "renamed" }).waitFor();
  const { apiKey } = await latchkey.asStaff.keys.getApiKey({ id: apiKeyId });
  assert.deepEqual([apiKey?.name, apiKey?.allowedMethods], ["renamed", ["billing.v1.*"]]);
  person.assertNothingOdd();
});

test("keys are reached and made with the keyboard alone", async () => {
  const { page } = person;
  await person.open("");
  await page.getByRole("heading", { name: "Overview" }).waitFor();
  await page.keyboard.press("g");
  await page.keyboard.press("k");
  await page.getByRole("heading", { name: "API keys" }).waitFor();
  await page.keyboard.press("/");
  await page.keyboard.type("of");
  await page.waitForURL(/q=of/);
  await page.keyboard.press("Escape");
  await page.evaluate("document.activeElement.blur()");
  // Long enough for what was typed last, an emptied field, to lead back.
  await page.route(/\/assets\/.*\.js$/, async (route) => {
    await sleep(1000);
    await route.continue();
  });
  await page.keyboard.press("c");
  await page.getByRole("heading", { name: "Create an API key" }).waitFor();
  await page.getByLabel("Name").focus();
  await page.keyboard.type("by hand");
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { name: "“by hand” is ready" }).waitFor();
  await shownToken();
  person.assertNothingOdd();
});

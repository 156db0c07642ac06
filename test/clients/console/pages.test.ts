/** The overview, users, the audit log and the server in the console. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { noteSecret } from "../../harness/secrets.ts";
import { createUserAndKey, secretKey } from "../../harness/server.ts";
import { until } from "../../harness/until.ts";
import { browser, latchkey, openConsole, openPerson, person } from "./chromium.ts";

openConsole("");

test("the overview shows calls, whose they are and what failed, by itself", async () => {
  const { page } = person;
  const { userId, apiKeyId, token } = await createUserAndKey(latchkey.asStaff, "busy");
  await person.open("?range=15m");
  const sums = page.getByRole("region", { name: "Sums of the last 15 minutes" });
  await sums.getByText("Requests").waitFor();
  const { users } = latchkey.as(token);
  for (let n = 0; n < 120; n++) await users.getUser({ userId });
  await users.getUser({ userId: 999_999n }).catch(() => {});
  const { token: narrow = "" } = await latchkey.asStaff.keys.createApiKey({
    userId,
    name: "narrow",
    allowedMethods: ["billing.v1.*"],
  });
  await latchkey
    .as(noteSecret(narrow))
    .users.getUser({ userId })
    .catch(() => {});

  // Nobody reloads the page.
  await page.getByRole("table", { name: "Keys with the most requests" }).getByText("key of busy").waitFor();
  await page.getByRole("table", { name: "Users with the most requests" }).getByText("busy").waitFor();
  await page
    .getByRole("table", { name: "Methods with the most requests" })
    .getByText("GetUser", { exact: true })
    .waitFor();
  const failed = page.getByRole("table", { name: "Recent failures" });
  await failed.getByRole("row", { name: /not_found key of busy user 999999 not found/ }).waitFor();
  const reasons = page.getByRole("table", { name: "Failures by reason" });
  await reasons.getByRole("row", { name: "not_found 1" }).waitFor();
  // Refused, and not by its code only.
  await reasons.getByRole("row", { name: "Method not allowed 1" }).waitFor();
  assert.equal(await reasons.getByText("permission_denied").count(), 0);
  // Two of one name are told apart.
  const { apiKey: renewed, token: renewedToken } = await latchkey.asStaff.keys.rotateApiKey({ id: apiKeyId });
  await latchkey.as(noteSecret(renewedToken)).users.getUser({ userId });
  await page.getByText(`${renewed?.start}… · busy`).waitFor();
  await page.getByText(`${token.slice(0, 9)}… · busy`).waitFor();

  const chart = page.getByRole("img", { name: /^Requests, errors and denials over the last 15 minutes/ });
  await chart.focus();
  await page.keyboard.press("ArrowLeft");
  const values = page.locator("[aria-live=polite]", { hasText: "Denials" });
  await values.waitFor();
  assert.match((await values.textContent()) ?? "", /Requests\d/);
  await page.getByText("30d", { exact: true }).click();
  await page.waitForURL(/range=30d/);
  await page.getByText("All calls of the last 30 days, the console's own included.").waitFor();
  person.assertNothingOdd();
});

test("a user is made, changed, disabled, enabled and deleted, and the audit log tells who did it", async () => {
  const { page } = person;
  await person.open("/users");
  await page.getByRole("button", { name: "Create user" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByLabel("Username").fill("not a name");
  await dialog.getByRole("button", { name: "Create user" }).click();
  await dialog.getByRole("alert").waitFor();
  await dialog.getByLabel("Username").fill("newcomer");
  await dialog.getByLabel("Email").fill("newcomer@example.com");
  await dialog.getByRole("button", { name: "Create user" }).click();
  await page.getByRole("heading", { level: 1, name: "newcomer" }).waitFor();
  const id = BigInt(page.url().split("/").at(-1) ?? "");

  await page.getByRole("button", { name: "Edit" }).click();
  await dialog.getByLabel("Bio").fill("on call this week");
  await dialog.getByRole("button", { name: "Save changes" }).click();
  // In the dialog it stands before it is saved.
  await page.locator("#main").getByText("on call this week").waitFor();

  const { apiKey, token } = await latchkey.asStaff.keys.createApiKey({ userId: id, name: "theirs" });
  await page.getByRole("button", { name: "Disable" }).click();
  await dialog.getByRole("button", { name: "Disable" }).click();
  await page.getByText("newcomer was disabled. Refused from now on: 1 key.").waitFor();
  await until(
    () =>
      latchkey
        .as(token)
        .users.updateProfile({ bio: "" })
        .then(
          () => "in",
          () => "refused",
        ),
    (found) => found === "refused",
  );
  await dialog.waitFor({ state: "hidden" });
  await page.getByRole("button", { name: "Enable", exact: true }).click();
  await dialog.getByRole("button", { name: "Enable", exact: true }).click();
  await page.getByText("newcomer was enabled.").waitFor();

  await dialog.waitFor({ state: "hidden" });
  await page.getByRole("button", { name: "Revoke all" }).click();
  await dialog.getByLabel("Note").fill("starting over");
  await dialog.getByRole("button", { name: "Revoke all" }).click();
  await page.getByText("Revoked: 1 key of newcomer.").waitFor();
  assert.equal(
    (await latchkey.asStaff.keys.getApiKey({ id: apiKey?.id ?? "" })).apiKey?.revocationNote,
    "starting over",
  );

  await page.getByRole("link", { name: "Changes to them" }).click();
  const events = page.getByRole("table", { name: "Audit log" });
  await events.getByText("Key revoked").waitFor();
  assert.deepEqual(await events.locator("tbody td:first-child").allTextContents(), [
    "Key revoked",
    "User changed",
    "User changed",
    "Key created",
    "User changed",
    "User created",
  ]);
  await events.getByRole("link", { name: "User changed" }).first().click();
  const fields = page.getByRole("table", { name: "Changed fields" });
  await fields.getByRole("rowheader", { name: "is_active" }).waitFor();
  await page.keyboard.press("Escape");

  await person.open(`/users/${id}`);
  await page.getByRole("button", { name: "Delete" }).click();
  const confirm = dialog.getByRole("button", { name: "Delete user" });
  assert.ok(await confirm.isDisabled());
  await dialog.getByLabel("To confirm, type newcomer").fill("newcomer");
  await confirm.click();
  await page.getByText("newcomer was deleted.").waitFor();
  await assert.rejects(latchkey.asStaff.admin.getUser({ id }), /not found/);
  person.assertNothingOdd();
});

test("the users are searched and filtered in the address, and their browsers are signed out", async () => {
  const { page } = person;
  const { userId, token } = await createUserAndKey(latchkey.asStaff, "elsewhere");
  const other = await openPerson(browser, latchkey.url);
  try {
    await other.signIn(token);
    await person.open("/users");
    await page.getByRole("searchbox", { name: "Search users" }).fill("elsewh");
    await page.waitForURL(/q=elsewh/);
    await page.getByRole("link", { name: "elsewhere" }).click();
    await page.waitForURL(new RegExp(`/users/${userId}`));
    await page.getByRole("button", { name: /^End the session from/ }).click();
    await page.getByText("The session has ended.").waitFor();
    await other.page.getByRole("link", { name: "API keys" }).click();
    await other.page.getByRole("dialog", { name: "Your session has ended" }).waitFor();
  } finally {
    await other.close();
  }
  person.assertNothingOdd();
});

test("who is not staff is told which pages are for staff, and that staff made their key", async () => {
  const { apiKeyId, token } = await createUserAndKey(latchkey.asStaff, "plain");
  const plain = await openPerson(browser, latchkey.url);
  const { page } = plain;
  try {
    await plain.open(`/keys/${apiKeyId}`);
    await plain.signIn(token);
    await page.getByText("by staff", { exact: true }).waitFor();
    for (const path of ["/users", "/users/1", "/audit", "/server"]) {
      await plain.open(path);
      await page.getByRole("heading", { level: 1, name: "For staff" }).waitFor();
      await page.getByText("Only staff see this page").waitFor();
    }
    await plain.open("/nowhere");
    await page.getByText("There is no such page").waitFor();
    plain.assertNothingOdd();
  } finally {
    await plain.close();
  }
});

test("the server page tells what runs and how it is set, without secrets", async () => {
  const { page } = person;
  await person.open("/server");
  await page.getByRole("table", { name: "Instances" }).getByText("Running").waitFor();
  await page.getByText("Answers you").waitFor();
  await page.getByText("Heard at once").waitFor();
  const settings = page.getByRole("table", { name: "Settings" });
  await page.getByLabel("Search settings").fill("secret_key");
  await settings.getByText("LATCHKEY_SECRET_KEY", { exact: true }).waitFor();
  await settings.getByRole("row", { name: /LATCHKEY_SECRET_KEY \(set\)/ }).waitFor();
  assert.ok(!(await page.content()).includes(secretKey));
  person.assertNothingOdd();
});

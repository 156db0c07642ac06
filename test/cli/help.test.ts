/** Every command says how it is used, with examples that work as they are printed. */
import assert from "node:assert/strict";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import type { Command } from "commander";
import { createProgram } from "../../src/cli/program.ts";
import { createTerminal } from "../../src/cli/terminal.ts";
import { readClientEnvironment } from "../../src/config-client.ts";
import { type Home, newHome, type Outcome } from "../harness/cli.ts";
import { noteSecret } from "../harness/secrets.ts";
import { newDirectory, onDatabase, secretKey, startServer, type TestServer } from "../harness/server.ts";

let server: TestServer;
before(async () => {
  server = await startServer();
});
after(() => server.close());

/** Every command that does something, by the words that name it. */
function leaves(command: Command, path: readonly string[] = []): { path: readonly string[]; help: string }[] {
  if (command.commands.length > 0) {
    return command.commands.flatMap((child) => leaves(child, [...path, child.name()]));
  }
  let help = "";
  command.configureOutput({ writeOut: (text) => (help += text) }).outputHelp();
  return [{ path, help }];
}

const cli = { terminal: createTerminal(false), env: readClientEnvironment({}), serverEnv: {} };
const program = createProgram(cli);
const isLast = ({ path }: { path: readonly string[] }) => path.includes("delete");
/** With what deletes the user of the others' examples at the end. */
const commands = leaves(program).sort((a, b) => Number(isLast(a)) - Number(isLast(b)));
const examplesOf = (help: string) => [...help.matchAll(/^ {2}\$ (.*)$/gm)].map(([, line]) => line ?? "");

/** A home in which the examples find what they name: a key, a token, a file of keys, folders of shells. */
async function homeForExamples(): Promise<Home> {
  const key = await server.asStaff.keys.createApiKey({ userId: 1n, name: "of an example" });
  const foreign = noteSecret(`foreign-token-${key.apiKey?.id}`);
  const home = newHome({
    LATCHKEY_SERVER: server.url,
    LATCHKEY_TOKEN: secretKey,
    KEY_ID: key.apiKey?.id ?? "",
    LATCHKEY_DATA_DIR: newDirectory(),
  });
  writeFileSync(join(home.directory, "token.txt"), `${noteSecret(key.token)}\n`);
  writeFileSync(join(home.directory, "keys.csv"), `token,user,name\n${foreign},2,imported\n`);
  for (const folder of [".local/share/bash-completion/completions", ".zfunc", ".config/fish/completions"]) {
    mkdirSync(join(home.directory, folder), { recursive: true });
  }
  return home;
}

/** Commands that go on until they are stopped: what they print first, and how they end. */
const goOn: readonly (readonly [pattern: RegExp, printed: RegExp, code: number | null])[] = [
  [/latchkey serve/, /Latchkey is listening/, 0],
  [/logs --follow/, /^TIME/, null],
];

async function runExample(home: Home, line: string): Promise<Outcome> {
  const [, printed, code] = goOn.find(([pattern]) => pattern.test(line)) ?? [];
  const isLocal = /latchkey (serve|bootstrap)/.test(line);
  const env = isLocal ? await onDatabase() : {};
  // A port that others have is not what the example is about; the process itself gets the signal.
  const here = line.replaceAll("50052", "0");
  if (printed === undefined) return home.shell(here, { env });
  const started = home.startShell(here.replace(/^([A-Z]+=\S+ )?latchkey/, "$1exec latchkey"), { env });
  try {
    let isPrinted = false;
    const whenPrinted = started
      .printed((text) => printed.test(text))
      .then(() => {
        isPrinted = true;
      });
    // What there is to follow, until it is followed.
    const caller = isLocal
      ? undefined
      : await server.asStaff.keys.createApiKey({ userId: 2n, name: "caller" });
    const users = caller && server.as(noteSecret(caller.token)).users;
    while (users && !isPrinted) await users.getUser({ userId: 2n });
    await whenPrinted;
  } finally {
    started.child.kill("SIGTERM");
  }
  const outcome = await started.exited;
  return outcome.code === code ? { ...outcome, code: 0 } : outcome;
}

test("there are all the commands that there should be", () => {
  assert.deepEqual(commands.map(({ path }) => path.join(" ")).sort(), [
    "audit",
    "bootstrap",
    "call",
    "completion",
    "doctor",
    ...["create", "import", "list", "revoke", "rotate", "show", "update", "verify"].map(
      (name) => `keys ${name}`,
    ),
    "login",
    "logout",
    "logs",
    "profiles",
    "serve",
    "stats",
    ...["create", "delete", "disable", "enable", "list", "show", "update"].map((name) => `users ${name}`),
    "whoami",
  ]);
});

for (const { path, help } of commands) {
  const name = path.join(" ");
  const examples = examplesOf(help);

  test(`${name}: its help has an example, and each works as it is printed`, async () => {
    assert.ok(examples.length > 0, help);
    for (const line of examples) {
      const home = await homeForExamples();
      if (name === "logout") await home.shell("latchkey login < token.txt");
      if (line.includes("example"))
        await server.asStaff.admin.createUser({ username: "example" }).catch(() => {});
      const outcome = await runExample(home, line);
      for (const [token] of outcome.stdout.matchAll(/lk_[0-9A-Za-z]{38}/g)) noteSecret(token);
      assert.equal(outcome.code, 0, `${line}\n${outcome.stderr}`);
    }
  });
}

test("latchkey --help lists the commands and the exit statuses, and each --help is on standard output", async () => {
  // A setting that is wrong is in nobody's way.
  const home = newHome({ PORT: "nonsense", LATCHKEY_NONSENSE: "1" });
  const [top, again, leaf, other, version] = await Promise.all(
    [["--help"], ["-h"], ["keys", "create", "--help"], ["help", "logs"], ["--version"]].map((args) =>
      home.latchkey(args),
    ),
  );
  for (const outcome of [top, again, leaf, other, version]) {
    assert.deepEqual([outcome?.code, outcome?.stderr], [0, ""]);
  }
  assert.equal(top?.stdout, again?.stdout);
  assert.match(top?.stdout ?? "", /^Usage: latchkey \[COMMAND\]/);
  for (const command of program.commands)
    assert.match(top?.stdout ?? "", new RegExp(`^  ${command.name()}\\b`, "m"));
  assert.match(
    top?.stdout ?? "",
    /Exit status: 0 done, 1 failed, 2 used wrongly, 3 unauthenticated, 4 .*, 5 .*, 6 /,
  );
  assert.match(leaf?.stdout ?? "", /^Usage: latchkey keys create \[options\]/);
  assert.match(other?.stdout ?? "", /^Usage: latchkey logs \[options\]/);
  assert.match(version?.stdout ?? "", /^\d+\.\d+\.\d+\n$/);
});

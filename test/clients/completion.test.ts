/** Completion in the real shells. */
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { before, test } from "node:test";
import { type Home, newHome } from "../harness/cli.ts";
import { atTerminal } from "./at-terminal.ts";

let home: Home;
before(async () => {
  home = newHome();
  writeFileSync(join(home.directory, "keys of old.csv"), "");
  for (const shell of ["bash", "zsh", "fish"]) {
    const { code, stderr } = await home.shell(`latchkey completion ${shell} > completion.${shell}`);
    assert.equal(code, 0, stderr);
  }
});

/** Runs a shell's own program in the home. */
function run(shell: string, script: string): string[] {
  assert.equal(
    spawnSync(shell, ["--version"]).status,
    0,
    `${shell} is missing: install Debian's package of that name`,
  );
  const env = { PATH: process.env.PATH, HOME: home.directory, TERM: "dumb" };
  const args = shell === "zsh" ? ["-f", "-c", script] : ["-c", script];
  const printed = execFileSync(shell, args, { cwd: home.directory, env, encoding: "utf8" });
  return printed.split("\n").filter(Boolean);
}

const complete: Readonly<Record<string, (words: readonly string[]) => string[]>> = {
  bash(words) {
    const quoted = words.map((word) => `'${word}'`).join(" ");
    return run(
      "bash",
      `source completion.bash; COMP_WORDS=(${quoted}); COMP_CWORD=${words.length - 1}; _latchkey; printf '%s\\n' "\${COMPREPLY[@]}"`,
    );
  },
  zsh(words) {
    // What zsh's completion system would offer, without a terminal to offer it on.
    const quoted = words.map((word) => `'${word}'`).join(" ");
    return run(
      "zsh",
      `compdef() { }
      offer() { local each; for each in "$@"; do [[ $each == "$cur"* ]] && print -r -- $each; done; true }
      compadd() { shift; offer "$@" }
      _files() { offer *(N) }
      _describe() { local -a names; names=(\${\${(P)4}%%:*}); offer $names }
      source ./completion.zsh
      words=(${quoted}); CURRENT=${words.length}; cur='${words.at(-1)}'; _latchkey; true`,
    );
  },
  fish(words) {
    return run("fish", `source completion.fish; complete -C '${words.join(" ")}'`).map(
      (line) => line.split("\t")[0]?.replaceAll("\\ ", " ") ?? "",
    );
  },
};

for (const [shell, completions] of Object.entries(complete)) {
  test(`${shell} completes commands, options, their values and files`, () => {
    const of = (...words: string[]) => completions(["latchkey", ...words]).sort();
    assert.deepEqual(
      of("").filter((word) => !word.startsWith("-")),
      [
        "audit",
        "bootstrap",
        "call",
        "completion",
        "doctor",
        "help",
        "keys",
        "login",
        "logout",
        "logs",
        "profiles",
      ].concat(["serve", "stats", "users", "whoami"]),
    );
    assert.deepEqual(of("ke"), ["keys"]);
    assert.deepEqual(of("keys", "r"), ["revoke", "rotate"]);
    assert.deepEqual(of("keys", "list", "--s"), ["--search", "--server", "--status"]);
    assert.deepEqual(of("keys", "list", "--status", ""), ["active", "expired", "revoked"]);
    assert.deepEqual(of("keys", "list", "--json", "--status", "a"), ["active"]);
    assert.deepEqual(of("keys", "list", "--search", ""), [], "nobody can guess it");
    assert.deepEqual(of("keys", "import", "keys"), ["keys of old.csv"]);
    assert.deepEqual(of("keys", "list", "--token-file", "keys"), ["keys of old.csv"]);
    assert.deepEqual(of("serve", "--require-auth", "t"), ["true"]);
    assert.deepEqual(of("logs", "--by"), []);
  });

  test(`${shell} finds nothing wrong with its script`, () => {
    assert.deepEqual(run(shell, `${shell} -n completion.${shell} 2>&1`), []);
  });
}

test("zsh shows them as one types", async () => {
  writeFileSync(join(home.directory, "_latchkey"), readFileSync(join(home.directory, "completion.zsh")));
  const prompt = "[?2004h";
  const { screen } = await atTerminal(
    ["zsh", "-f"],
    [
      [prompt, "fpath=($PWD $fpath); autoload -U compinit; compinit -u -D; echo LOA''DED\r"],
      ["LOADED", "latchkey keys r\t\t"],
      ["rotate", "\u0003"],
      [prompt, "exit\r"],
    ],
    { PATH: process.env.PATH, HOME: home.directory, TERM: "dumb" },
    home.directory,
  );
  assert.match(screen, /revoke +-- End keys for good/);
  assert.match(screen, /rotate +-- Make a new token/);
});

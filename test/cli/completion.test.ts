/** `latchkey completion`: what is printed. That the shells understand it is for test/clients. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { newHome } from "../harness/cli.ts";

const home = newHome();

test("each shell's script names every command and option of the program", async () => {
  const { stdout: help } = await home.latchkey(["keys", "create", "--help"]);
  const options = [...help.matchAll(/^ +(?:-\w, )?(--[\w-]+)/gm)].map(([, name]) => name ?? "");
  assert.ok(options.length > 10);
  await Promise.all(
    ["bash", "zsh", "fish"].map(async (shell) => {
      const { code, stdout, stderr } = await home.latchkey(["completion", shell]);
      assert.deepEqual([code, stderr], [0, ""]);
      for (const option of options) {
        assert.ok(
          stdout.includes(shell === "fish" ? `-l ${option.slice(2)} ` : option),
          `${shell}: ${option}`,
        );
      }
      assert.ok(!stdout.includes("--token "), "what is refused is not offered");
    }),
  );
});

test("another shell is refused with those that there are", async () => {
  const { code, stdout, stderr } = await home.latchkey(["completion", "tcsh"]);
  assert.deepEqual([code, stdout], [2, ""]);
  assert.match(stderr, /bash, zsh, fish/);
});

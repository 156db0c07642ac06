/** Processes of the bench on the server's processor: the parent's side of their messages. `child-main.ts` is theirs. */
import { spawn } from "node:child_process";
import { onServer, type Places } from "./machine.ts";

export interface Child {
  readonly pid: number;
  /** Asks for something by its name and waits for the answer; rejects with what the child threw. One at a time. */
  ask<T>(what: string, args?: object): Promise<T>;
  /** Asks it to close and waits for its end, which it has by force where it does not close. */
  close(): Promise<void>;
}

export interface ChildOptions {
  /** For messages. */
  readonly name: string;
  /** A file in this folder. */
  readonly script: string;
  readonly places: Places;
  /** Arguments of Node's own. */
  readonly nodeArgs?: readonly string[];
}

/** Closes all of them, whatever becomes of one; rejects with what the first said that did not close as it should. */
export async function closeChildren(children: readonly Pick<Child, "close">[]): Promise<void> {
  const closed = await Promise.allSettled(children.map((child) => child.close()));
  for (const each of closed) if (each.status === "rejected") throw each.reason;
}

const answerTimeoutMs = 300_000;

/** Starts a script in production's mode. It ends with this process, whatever becomes of that. */
export function startChild({ name, script, places, nodeArgs = [] }: ChildOptions): Child {
  const path = new URL(script, import.meta.url).pathname;
  const [command, args] = onServer(places, [process.execPath, "--expose-gc", ...nodeArgs, path]);
  const { PATH = "", HOME = "" } = process.env;
  const child = spawn(command, args, {
    stdio: ["ignore", "inherit", "inherit", "ipc"],
    env: { PATH, HOME, NODE_ENV: "production" },
  });
  const exited = new Promise<number | null>((resolve) => {
    child.once("error", () => resolve(null));
    child.once("exit", resolve);
  });

  function ask<T>(what: string, args: object = {}): Promise<T> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`${name}: no answer to ${what}`)), answerTimeoutMs);
      const settle = (answer: { value?: T; error?: string }) => {
        clearTimeout(timer);
        if (answer.error === undefined) resolve(answer.value as T);
        else reject(new Error(`${name}: ${answer.error}`));
      };
      child.once("message", settle);
      void exited.then((code) => settle({ error: `it ended with ${code}` }));
      if (child.connected) child.send({ what, args });
    });
  }

  return {
    pid: child.pid ?? 0,
    ask,
    async close() {
      const killing = setTimeout(() => child.kill("SIGKILL"), 60_000);
      try {
        if (child.connected) await ask("close");
      } finally {
        if (child.connected) child.disconnect();
        await exited;
        clearTimeout(killing);
      }
    },
  };
}

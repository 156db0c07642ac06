/** Where a command prints: results on standard output, all else on standard error. */
import { createInterface } from "node:readline";
import { Writable } from "node:stream";
import { styleText } from "node:util";
import { exitCodes, Failure } from "./failure.ts";

type Style = Parameters<typeof styleText>[0];

export interface Terminal {
  /**
   * Prints a result, and resolves when it is on its way: a reader that is slow is waited for. Where
   * nobody reads any more the command ends without a word, unless there is one for that.
   */
  print(text: string, unread?: string): Promise<void>;
  /** Says what is no result. */
  note(text: string): void;
  /** A text for standard output in a colour, where colours are shown. */
  style(style: Style, text: string): string;
  /** Whether standard output is for people. */
  readonly isOutputTerminal: boolean;
  /** Runs what may take a while. After a second, a terminal is told what is waited for. */
  during<T>(what: string, work: (tell: (what: string) => void) => Promise<T>): Promise<T>;
  /** Asks before what cannot be undone. Fails where nobody can be asked, or the answer is not yes. */
  confirm(question: string, yes: boolean | undefined): Promise<void>;
  /** A secret of one line: typed without being shown, or all that is on standard input. */
  readSecret(question: string): Promise<string>;
}

const progressAfterMs = 1000;
const clearLine = "\r\x1b[K";

export function createTerminal(colors: boolean): Terminal {
  const { stdin, stdout, stderr } = process;
  let ifUnread: string | undefined;
  // A reader that has read enough, `head` for one.
  for (const stream of [stdout, stderr]) {
    stream.on("error", (error: NodeJS.ErrnoException) => {
      if (error.code !== "EPIPE") throw error;
      if (ifUnread === undefined) process.exit();
      stderr.write(`latchkey: ${ifUnread}\n`);
      process.exit(1);
    });
  }

  const during: Terminal["during"] = async (what, work) => {
    if (!stderr.isTTY) return work(() => {});
    const startedMs = performance.now();
    let told = what;
    const show = () => {
      const seconds = Math.floor((performance.now() - startedMs) / 1000);
      stderr.write(`${clearLine}${told}… ${seconds} s`);
    };
    let repeat: NodeJS.Timeout | undefined;
    const first = setTimeout(() => {
      show();
      repeat = setInterval(show, 1000);
    }, progressAfterMs);
    try {
      return await work((next) => {
        told = next;
      });
    } finally {
      clearTimeout(first);
      clearInterval(repeat);
      if (repeat !== undefined) stderr.write(clearLine);
    }
  };

  /** Reads a line from the terminal. */
  const ask = (question: string, shown: boolean) =>
    new Promise<string>((resolve, reject) => {
      const nowhere = new Writable({ write: (_chunk, _encoding, done) => done() });
      const lines = createInterface({ input: stdin, output: shown ? stderr : nowhere, terminal: true });
      // Only now, as the terminal shows nothing by itself any more: who types at once is not seen either.
      if (shown) {
        lines.setPrompt(plain(question));
        lines.prompt();
      } else stderr.write(plain(question));
      let answer: string | undefined;
      lines.once("line", (line) => {
        answer = line;
        lines.close();
      });
      lines.once("SIGINT", () => lines.close());
      lines.once("close", () => {
        if (!shown || answer === undefined) stderr.write("\n");
        if (answer === undefined) reject(new Failure("not answered: nothing was done", 130));
        else resolve(answer);
      });
    });

  return {
    isOutputTerminal: stdout.isTTY === true,
    print(text, unread) {
      ifUnread = unread;
      return new Promise((resolve) => {
        stdout.write(text, (error) => {
          if (error) return;
          ifUnread = undefined;
          resolve();
        });
      });
    },
    note: (text) => void stderr.write(`${plainLines(text)}\n`),
    style: (style, text) =>
      colors && stdout.isTTY ? styleText(style, text, { validateStream: false }) : text,
    during,
    async confirm(question, yes) {
      if (yes) return;
      if (!stdin.isTTY || !stderr.isTTY) {
        throw new Failure(`${question} Nobody can be asked here: give --yes to do it`, exitCodes.usage);
      }
      const answer = await ask(`${question} [y/N] `, true);
      if (!/^y(es)?$/i.test(answer.trim())) throw new Failure("nothing was done", 1);
    },
    async readSecret(question) {
      if (stdin.isTTY) return (await ask(question, false)).trim();
      return (await readAll()).trim();
    },
  };
}

/** All of standard input. */
export async function readAll(): Promise<string> {
  let text = "";
  for await (const chunk of process.stdin.setEncoding("utf8")) text += chunk;
  return text;
}

/** The same for a text of several lines. */
export function plainLines(text: string): string {
  return text.split(/\r?\n/).map(plain).join("\n");
}

/**
 * A text of somebody else's, fit for a terminal: what could move the cursor, change colours
 * or turn the direction of writing is shown as a dot.
 */
export function plain(text: string): string {
  return text.replace(/[\p{Cc}\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]/gu, "·");
}

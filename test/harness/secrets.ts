/** What must never be found where it does not belong: noted while tests run, searched for at the end. */
import { createHash } from "node:crypto";
import { appendFileSync, mkdirSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { databaseUrl, openSql } from "./postgres.ts";

const runDir = process.env.TEST_RUN_DIR;

/** Notes a token or secret key that a test has used. Returns it. */
export function noteSecret(secret: string): string {
  if (runDir !== undefined) appendFileSync(join(runDir, "secrets"), `${secret}\n`);
  return secret;
}

/** Where a server's log of this run goes: a file that is searched at the end. */
export function logFile(): string {
  const directory = join(runDir ?? ".", "logs");
  mkdirSync(directory, { recursive: true });
  return join(directory, `${process.pid}.log`);
}

/** Searches every log file and every row of every test database. Returns what was found and how much was searched. */
export async function findLeaks(dir: string, url: string): Promise<{ leaks: string[]; searched: string }> {
  const secrets = [...new Set(readFileSync(join(dir, "secrets"), "utf8").split("\n").filter(Boolean))];
  const leaks: string[] = [];
  const find = createFinder(secrets);
  const search = (where: string, text: string) => {
    for (const secret of find(text)) leaks.push(`${secret.slice(0, 9)}… in ${where}`);
  };

  const logs = readdirSync(join(dir, "logs"));
  let lines = 0;
  for (const name of logs) {
    const text = readFileSync(join(dir, "logs", name), "utf8");
    lines += text.split("\n").length - 1;
    search(`log ${name}`, text);
  }
  const { rows, databases } = await searchDatabases(url, search);
  return {
    leaks,
    searched: `${secrets.length} secrets in ${lines} log lines of ${logs.length} files and ${rows} rows of ${databases} databases`,
  };
}

const headLength = 8;

/** Finds secrets in a text, in one reading of it however many there are: by their first characters. */
function createFinder(secrets: readonly string[]): (text: string) => string[] {
  const byHead = new Map<string, { form: string; secret: string }[]>();
  for (const secret of secrets) {
    for (const form of forms(secret)) {
      const head = form.slice(0, headLength);
      byHead.set(head, [...(byHead.get(head) ?? []), { form, secret }]);
    }
  }
  return (text) => {
    const found: string[] = [];
    for (let i = 0; i + headLength <= text.length; i++) {
      const candidates = byHead.get(text.slice(i, i + headLength));
      for (const { form, secret } of candidates ?? []) if (text.startsWith(form, i)) found.push(secret);
    }
    return found;
  };
}

/** A secret as it is, and its hash in the ways that one writes it. */
function forms(secret: string): string[] {
  const digest = createHash("sha256").update(secret).digest();
  return [secret, digest.toString("hex"), digest.toString("base64"), digest.toString("base64url")];
}

async function searchDatabases(url: string, search: (where: string, text: string) => void) {
  const sql = openSql(url);
  const names = await sql<
    { datname: string }[]
  >`SELECT datname FROM pg_database WHERE datname LIKE 'test\\_%'`;
  await sql.end();
  let rows = 0;
  for (const { datname } of names) {
    const db = openSql(databaseUrl(url, datname));
    for (const table of [
      "request_logs",
      "idempotent_requests",
      "rollup_tops",
      "audit_events",
      "method_rollups",
      "key_rollups",
      "users",
      "instances",
    ]) {
      for (const { text } of await db`SELECT t::text AS text FROM ${db(table)} t`) {
        rows++;
        search(`${datname}.${table}`, text);
      }
    }
    await db.end();
  }
  return { rows, databases: names.length };
}

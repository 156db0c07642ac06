/** `latchkey doctor`: what is wrong, and what to do. */
import type { Command } from "commander";
import type { Cli } from "./command.ts";
import { exitCodes } from "./failure.ts";
import type { Finding } from "./finding.ts";
import { jsonOption } from "./list.ts";
import { escapeControls } from "./output.ts";
import { createRemoteCommand } from "./remote.ts";
import type { RemoteOptions } from "./target.ts";
import { plain } from "./terminal.ts";

interface DoctorOptions extends RemoteOptions {
  readonly json?: true;
}

export function doctorCommand(cli: Cli): Command {
  return createRemoteCommand(
    "doctor",
    "Look at settings, versions, files, database, migrations, clock, port and the running server, and say what is " +
      "wrong and what to do. Changes nothing. The exit status is 1 where something is wrong.",
    ["latchkey doctor", "latchkey doctor --json"],
  )
    .addOption(jsonOption("one JSON object a line in place of text"))
    .action(async (options: DoctorOptions) => {
      const findings = await cli.terminal.during("looking at everything", () => examine(cli, options));
      const text = options.json ? findings.map(jsonLine).join("") : lines(cli, findings);
      await cli.terminal.print(text);
      if (findings.some(({ state }) => state === "wrong")) process.exitCode = exitCodes.failed;
    });
}

async function examine(cli: Cli, options: RemoteOptions): Promise<Finding[]> {
  // Not before: the other commands have no need of a database.
  const [local, { checkDatabase }, server] = await Promise.all([
    import("./doctor-local.ts"),
    import("./doctor-database.ts"),
    import("./doctor-server.ts"),
  ]);
  const { config, finding } = local.checkSettings(cli);
  const findings = [local.checkVersions(), finding];
  if (config !== undefined) {
    findings.push(...(await local.checkTls(config)));
    findings.push(...(await local.checkSecretKeyFile(config)));
    findings.push(...(await checkDatabase(config)));
    findings.push(await local.checkPort(config, server.isServing));
  }
  findings.push(...(await server.checkServer(cli, options)));
  return findings;
}

function jsonLine(finding: Finding): string {
  return `${escapeControls(JSON.stringify(finding))}\n`;
}

function lines({ terminal }: Cli, findings: readonly Finding[]): string {
  const marks = { ok: ["green", "ok"], warning: ["yellow", "warning"], wrong: ["red", "wrong"] } as const;
  const width = Math.max(...findings.map(({ what }) => what.length));
  return findings
    .map(({ state, what, found, advice }) => {
      const [color, mark] = marks[state];
      const head = `${terminal.style(color, mark.padEnd(7))}  ${what.padEnd(width)}  `;
      const indent = " ".repeat(7 + 2 + width + 2);
      const told = found.split("\n").map(plain).join(`\n${indent}`);
      return `${head}${told}\n${advice === undefined ? "" : `${indent}${plain(advice)}\n`}`;
    })
    .join("");
}

/** Envoy, nginx and Caddy, configured as README says, before a service in Python. */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { answers, freePort } from "../harness/ports.ts";
import { findPython, findPythonProgram } from "../harness/python.ts";
import { until } from "../harness/until.ts";

export interface GuardedServer {
  readonly grpc: number;
  readonly rest: number;
  stop(): Promise<void>;
}

/** Starts guarded_server.py. */
export async function startGuardedServer(): Promise<GuardedServer> {
  const script = fileURLToPath(new URL("guarded_server.py", import.meta.url));
  const child = spawn(await findPython("grpc"), [script], { stdio: ["pipe", "pipe", "inherit"] });
  const [line] = await once(createInterface(child.stdout), "line");
  return { ...JSON.parse(line), stop: () => stop(child) };
}

export interface RunningProxy {
  /** Where callers come to, over gRPC and over HTTP; the same one for Envoy. */
  readonly grpc: number;
  readonly rest: number;
  /** What it printed. */
  said(): string;
  stop(): Promise<void>;
}

export interface ProxyOptions {
  latchkey: number;
  guarded: Pick<GuardedServer, "grpc" | "rest">;
  token: string;
}

interface Program {
  readonly files: Record<string, string>;
  readonly command: readonly [program: string, ...args: string[]];
}

const envoyOptions = ["--disable-hot-restart", "--file-flush-interval-msec", "50", "-l", "error"];
const accessLogType = "type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog";

/** How each is started in a folder that holds its files. */
const programs = {
  async envoy(): Promise<Program> {
    const line = "%REQ(:PATH)% %DYNAMIC_METADATA(envoy.filters.http.ext_authz)%\\n";
    const log = `access_log: [{ name: stdout, typed_config: { "@type": ${accessLogType}, log_format: { text_format_source: { inline_string: "${line}" } } } }]`;
    const config = block("yaml", "static_resources:").replace(/^( *)(?=stat_prefix:)/m, `$1${log}\n$1`);
    return {
      files: { "envoy.yaml": config },
      command: [await findPythonProgram("envoy"), "-c", "envoy.yaml", ...envoyOptions],
    };
  },
  async nginx(directory: string): Promise<Program> {
    if (spawnSync("nginx", ["-v"]).status !== 0) {
      throw new Error("nginx is missing: install Debian's package nginx-light, or nginx");
    }
    // Anyone may run it: Debian's own paths are root's.
    const paths = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
      .map((name) => `${name}_temp_path ${directory}/${name};`)
      .join(" ");
    const globals = `daemon off; pid ${directory}/pid;`;
    return {
      files: {
        "nginx.conf": block("nginx", "events").replace("http {\n", `http {\n  access_log off; ${paths}\n`),
        "latchkey.conf": block("nginx", "proxy_http_version"),
      },
      command: ["nginx", "-p", directory, "-c", "nginx.conf", "-e", `${directory}/error.log`, "-g", globals],
    };
  },
  async caddy(): Promise<Program> {
    const globals = "{\n  admin off\n  persist_config off\n}\n";
    return {
      files: { Caddyfile: globals + block("caddyfile", "http://") },
      command: [await findPythonProgram("caddy"), "run", "--config", "Caddyfile", "--adapter", "caddyfile"],
    };
  },
};

export type ProxyName = keyof typeof programs;

/** Starts a proxy, on free ports, and resolves once it listens. */
export async function startProxy(name: ProxyName, options: ProxyOptions): Promise<RunningProxy> {
  const directory = mkdtempSync(join(tmpdir(), `latchkey-${name}-`));
  chmodSync(directory, 0o755);
  const [grpc, other] = [await freePort(), await freePort()];
  const rest = name === "envoy" ? grpc : other;
  const { files, command } = await programs[name](directory);
  const real: Record<string, number> = {
    50051: options.latchkey,
    9000: options.guarded.grpc,
    9001: options.guarded.rest,
    8080: grpc,
    8081: rest,
  };
  for (const [file, text] of Object.entries(files)) {
    const configured = text
      .replaceAll(/\b(50051|9000|9001|8080|8081)\b/g, (port) => String(real[port]))
      .replaceAll("PROXY_TOKEN", options.token);
    writeFileSync(join(directory, file), configured, { mode: 0o600 });
  }
  const [program, ...args] = command;
  const child = spawn(program, args, {
    cwd: directory,
    env: { ...process.env, HOME: directory, XDG_DATA_HOME: directory },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let said = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding("utf8").on("data", (text: string) => {
      said += text;
    });
  }
  await until(
    () => {
      if (child.exitCode !== null) throw new Error(`${name} ended with ${child.exitCode}: ${said}`);
      return answers(grpc);
    },
    (is) => is,
  );
  return {
    grpc,
    rest,
    said: () => said,
    async stop() {
      await stop(child);
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

const readme = readFileSync("README.md", "utf8");

/** README's block of a language that begins with a text. */
function block(language: string, start: string): string {
  for (const [, text = ""] of readme.matchAll(new RegExp(`^\`\`\`${language}\\n([\\s\\S]*?)^\`\`\``, "gm"))) {
    if (text.startsWith(start)) return text;
  }
  throw new Error(`README has no ${language} that begins with ${start}`);
}

async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = once(child, "exit");
  child.kill("SIGTERM");
  await ended;
}

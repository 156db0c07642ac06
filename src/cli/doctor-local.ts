/** What `latchkey doctor` finds out about this machine: settings, files and the port. */
import { X509Certificate } from "node:crypto";
import { readFile, stat } from "node:fs/promises";
import { createServer } from "node:net";
import { createSecureContext } from "node:tls";
import { secretKeyFile } from "../auth/secret-key.ts";
import { type Config, readConfig } from "../config.ts";
import { packageVersion } from "../version.ts";
import { authorityOf } from "./authority.ts";
import type { Cli } from "./command.ts";
import { type Finding, ok, warning, wrong } from "./finding.ts";

const oldestNode = [22, 18] as const;
const dayMs = 86_400_000;

/** The settings, where they can be used, and what was found on the way. */
export function checkSettings({ serverEnv }: Cli): { config: Config | undefined; finding: Finding } {
  try {
    const config = readConfig(serverEnv);
    const mode = config.production ? "production" : "development";
    return { config, finding: ok("settings", `can be used (${mode})`) };
  } catch (error) {
    const advice = "set it right, or unset it: latchkey serve --help lists all settings";
    return { config: undefined, finding: wrong("settings", (error as Error).message, advice) };
  }
}

export function checkVersions(): Finding {
  const [major = 0, minor = 0] = process.versions.node.split(".").map(Number);
  const found = `Latchkey ${packageVersion}, Node ${process.version}`;
  const isOld = major < oldestNode[0] || (major === oldestNode[0] && minor < oldestNode[1]);
  if (!isOld) return ok("versions", found);
  return wrong("versions", found, `Latchkey needs Node ${oldestNode.join(".")} or newer`);
}

/** The certificate and its key; nothing where there is none. */
export async function checkTls({ tlsCert, tlsKey }: Config): Promise<Finding[]> {
  if (tlsCert === undefined || tlsKey === undefined) return [];
  try {
    const [cert, key] = await Promise.all([readFile(tlsCert), readFile(tlsKey)]);
    createSecureContext({ cert, key });
    const { validFromDate, validToDate } = new X509Certificate(cert);
    const until = validToDate.toISOString();
    if (validToDate < new Date())
      return [wrong("TLS", `the certificate ended at ${until}`, "renew it, and start again")];
    if (validFromDate > new Date()) {
      const advice = "wait, take another, or set the clock";
      return [wrong("TLS", `the certificate begins at ${validFromDate.toISOString()}`, advice)];
    }
    if (validToDate.getTime() - Date.now() < 14 * dayMs) {
      return [warning("TLS", `the certificate ends at ${until}`, "renew it, and start again")];
    }
    return [ok("TLS", `the certificate is good until ${until}`)];
  } catch (error) {
    const advice = "LATCHKEY_TLS_CERT and LATCHKEY_TLS_KEY must be PEM files of one pair";
    return [wrong("TLS", (error as Error).message, advice)];
  }
}

/** The development secret key's file; nothing where there is none. */
export async function checkSecretKeyFile({ dataDir, acceptSecretKey }: Config): Promise<Finding[]> {
  const file = secretKeyFile(dataDir);
  try {
    const { mode } = await stat(file);
    if (process.platform === "win32" || (mode & 0o077) === 0) return [];
    return acceptSecretKey ? [wrong("secret key", `${file} can be read by others`, `chmod 600 ${file}`)] : [];
  } catch {
    return [];
  }
}

/** Whether the port can be had. What answers there is another check's. */
export async function checkPort(
  config: Config,
  isLatchkey: (url: string) => Promise<boolean>,
): Promise<Finding> {
  const { host, port } = config;
  const what = "port";
  const code = await listenCode(host, port);
  if (code === undefined) return ok(what, port === 0 ? "a free one is taken" : `${host}:${port} is free`);
  if (code === "EADDRINUSE") {
    const authority = authorityOf({ address: host, port });
    const scheme = config.tlsCert === undefined ? "http" : "https";
    if (await isLatchkey(`${scheme}://${authority}`)) return ok(what, `a server answers at ${host}:${port}`);
    const advice = "stop what uses it, or set PORT to another";
    return wrong(what, `${host}:${port} is taken by another process`, advice);
  }
  return wrong(what, `cannot listen on ${host}:${port} (${code})`, "set HOST and PORT");
}

function listenCode(host: string, port: number): Promise<string | undefined> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message));
    server.listen({ host, port }, () => server.close(() => resolve(undefined)));
  });
}

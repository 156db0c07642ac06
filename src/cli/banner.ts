/** What `latchkey serve` prints once it listens. */
import type { AddressInfo } from "node:net";
import type { Config } from "../config.ts";
import { authorityOf } from "./authority.ts";

/** The banner. Its commands work as they are printed. */
export function banner(
  config: Config,
  server: {
    address: AddressInfo;
    metricsAddress: AddressInfo | undefined;
    databaseDescription: string;
    secretKey: string | undefined;
  },
): string {
  const authority = authorityOf(server.address);
  const tls = config.tlsCert !== undefined;
  const url = `${tls ? "https" : "http"}://${authority}`;
  const mode = !config.authEnabled ? "off" : config.requireAuth ? "required" : "optional";
  const lines = [
    "Latchkey is listening.",
    "",
    `  address         ${url}  (gRPC, gRPC-Web and Connect; HTTP/1.1 and HTTP/2${tls ? ", TLS" : ""})`,
    `  database        ${server.databaseDescription}`,
    `  authentication  ${mode}`,
  ];
  // With authentication off nobody can sign in.
  if (config.console && config.authEnabled) lines.push(`  console         ${url}/console`);
  if (server.metricsAddress !== undefined) {
    lines.push(`  metrics         http://${authorityOf(server.metricsAddress)}/metrics`);
  }
  if (server.secretKey === undefined) {
    lines.push("  secret key      not accepted; latchkey bootstrap creates the first staff user and key");
  } else {
    lines.push(`  secret key      ${server.secretKey}  (signs in as the first staff user; development only)`);
    lines.push(...commands(config, url, authority, server.secretKey));
  }
  return `${lines.join("\n")}\n`;
}

function commands(config: Config, url: string, authority: string, secretKey: string): string[] {
  const tls = config.tlsCert !== undefined;
  const header = `-H ${quote(`${config.apiKeyHeader}: ${secretKey}`)}`;
  const curl = `curl ${tls ? "-k " : ""}${header} -H 'content-type: application/json'`;
  const lines = ["", "Read a user:", `  ${curl} -d '{"userId":"1"}' ${url}/api.users.UserService/GetUser`];
  // With authentication off nobody is looked up, and so nobody may do these.
  if (config.authEnabled) lines.push(...keyCommands(curl, url));
  if (config.reflection) {
    const grpcurl = tls ? "grpcurl -insecure" : "grpcurl -plaintext";
    lines.push("", "Read a user over gRPC, where grpcurl is installed:");
    lines.push(`  ${grpcurl} ${header} -d '{"user_id":1}' ${authority} api.users.UserService/GetUser`);
  }
  return lines;
}

function keyCommands(curl: string, url: string): string[] {
  return [
    "",
    "Create an API key; the answer holds its token, this once:",
    `  ${curl} -d '{"userId":"2","name":"my first key"}' ${url}/latchkey.v1.ApiKeyService/CreateApiKey`,
    "",
    "See what was called:",
    `  ${curl} -d '{"pageSize":5}' ${url}/latchkey.v1.RequestLogService/ListRequestLogs`,
  ];
}

/** A text as one word of a shell. */
function quote(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

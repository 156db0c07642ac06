/** What `latchkey doctor` finds out about a running server. */
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-node";
import { Health, HealthCheckResponse_ServingStatus as Serving } from "../gen/health/v1/health_pb.js";
import { ServerService } from "../gen/latchkey/v1/server_service_pb.js";
import { SessionService } from "../gen/latchkey/v1/session_service_pb.js";
import { packageVersion } from "../version.ts";
import type { Cli } from "./command.ts";
import { describeCallFailure, Failure } from "./failure.ts";
import { type Finding, ok, warning, wrong } from "./finding.ts";
import { openRemote, type Remote } from "./remote.ts";
import { findTarget, type RemoteOptions, type Target } from "./target.ts";

const answerMs = 5_000;

/** Whether what answers at a URL has a health service. Certificates are another check's. */
export async function isServing(url: string): Promise<boolean> {
  try {
    const transport = createConnectTransport({
      baseUrl: url,
      httpVersion: "1.1",
      nodeOptions: { rejectUnauthorized: false },
    });
    await createClient(Health, transport).check({}, { timeoutMs: answerMs });
    return true;
  } catch {
    return false;
  }
}

/** Looks at the server that commands would talk to. One that nobody named may be missing. */
export async function checkServer(cli: Cli, options: RemoteOptions): Promise<Finding[]> {
  const isNamed = [options.server, options.profile, cli.env.server, cli.env.profile].some(
    (name) => name !== undefined,
  );
  let target: Target;
  try {
    target = await findTarget(cli, options);
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    return [wrong("server", error.message, "see latchkey login --help")];
  }
  const { server, token } = target;
  const remote = openRemote(cli, target, options.timeout ?? answerMs);
  try {
    // Without the token: whether it is any good is the next check's.
    const { status } = await openRemote(cli, { ...target, token: undefined }, options.timeout ?? answerMs)
      .client(Health)
      .check({});
    if (status !== Serving.SERVING) {
      return [
        wrong("server", `${server} says that it cannot serve`, "its log says why: see to its database"),
      ];
    }
  } catch (error) {
    const { message } = describeCallFailure(ConnectError.from(error), server);
    if (!isNamed) return [ok("server", `none answers at ${server}`)];
    return [wrong("server", message, "start it, or name another with --server")];
  }
  if (token === undefined) {
    return [
      ok("server", `${server} serves`),
      warning("token", `none for ${server}`, "latchkey login takes one"),
    ];
  }
  return [ok("server", `${server} serves`), await checkToken(remote), ...(await checkVersion(remote))];
}

async function checkToken(remote: Remote): Promise<Finding> {
  try {
    const { current } = await remote.client(SessionService).getSession({});
    return ok("token", `signs in ${current?.username}${current?.isStaff ? ", staff" : ""}`);
  } catch (error) {
    const { code, rawMessage } = ConnectError.from(error);
    if (code === Code.PermissionDenied) return ok("token", `is good for some methods (${rawMessage})`);
    if (code !== Code.Unauthenticated) return warning("token", rawMessage, "try again");
    return wrong("token", rawMessage, "latchkey login takes another");
  }
}

/** Staff are told the server's version. */
async function checkVersion(remote: Remote): Promise<Finding[]> {
  try {
    const { version, instances } = await remote.client(ServerService).getServer({});
    const found = `${remote.target.server} is ${version}, of ${instances.length} instances`;
    if (version === packageVersion) return [ok("server version", found)];
    return [warning("server version", found, `this command is ${packageVersion}: take the same`)];
  } catch {
    return [];
  }
}

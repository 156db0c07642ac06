/**
 * Runs in the browser, as the script of a page that Latchkey does not serve: calls
 * it through Connect-Web and sends what it saw to where the page came from.
 */

import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createConnectTransport, createGrpcWebTransport } from "@connectrpc/connect-web";
import { ErrorInfoSchema, UserService } from "generated";

const { target, token, header, userId } = JSON.parse(document.getElementById("settings").textContent);

function transports(apiKey) {
  const interceptors = [
    (next) => (req) => {
      if (apiKey !== undefined) req.header.set(header, apiKey);
      return next(req);
    },
  ];
  const options = { baseUrl: target, interceptors };
  return {
    "gRPC-Web": createGrpcWebTransport(options),
    "Connect JSON": createConnectTransport(options),
    "Connect binary": createConnectTransport({ ...options, useBinaryFormat: true }),
    "Connect GET": createConnectTransport({ ...options, useHttpGet: true }),
  };
}

/** What a call came to, in JSON. */
async function outcome(call) {
  try {
    return await call();
  } catch (reason) {
    const error = ConnectError.from(reason);
    const [info] = error.findDetails(ErrorInfoSchema);
    return {
      code: Code[error.code],
      message: error.rawMessage,
      reason: info?.reason,
      challenge: error.metadata.get("www-authenticate"),
      requestId: error.metadata.get("x-request-id") !== null,
    };
  }
}

const seen = {};
for (const [name, transport] of Object.entries(transports(token))) {
  const client = createClient(UserService, transport);
  const anonymous = createClient(UserService, transports(undefined)[name]);
  const stranger = createClient(UserService, transports("lk_no")[name]);
  let requestId = false;
  const onHeader = (headers) => {
    requestId = headers.get("x-request-id") !== null;
  };
  seen[name] = {
    getUser: await outcome(
      async () => (await client.getUser({ userId: BigInt(userId) }, { timeoutMs: 20_000, onHeader })).email,
    ),
    requestId,
    updateProfile: await outcome(async () => (await client.updateProfile({ bio: `by ${name}` })).bio),
    listUsers: await outcome(async () => {
      let users = 0;
      for await (const _ of client.listUsers({ limit: 3 })) users++;
      return users;
    }),
    anonymous: await outcome(async () => (await anonymous.getUser({ userId: BigInt(userId) })).email),
    missing: await outcome(() => anonymous.updateProfile({ bio: "" })),
    unknown: await outcome(() => stranger.updateProfile({ bio: "" })),
    staff: await outcome(() => client.deleteUser({ userId: BigInt(userId) })),
    notThere: await outcome(() => client.getUser({ userId: 2n ** 62n })),
  };
}
await fetch("/seen", { method: "POST", body: JSON.stringify(seen) });

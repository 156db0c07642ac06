/** A call of the echo service in JSON, in the bytes of the load: what its true client is answered may be longer. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { Agent, type IncomingMessage, request } from "node:http";
import { buffer } from "node:stream/consumers";
import { echoPath, jsonMessage } from "./echo.ts";

/** What the load sends beside Host and Content-Length. */
export function jsonHeaders(token: string): Record<string, string> {
  return { "content-type": "application/json", "connect-protocol-version": "1", "x-api-key": token };
}

/**
 * Calls once, on a connection of its own, and returns the bytes of the answer, with its headers.
 * Rejects where the answer is another one.
 */
export async function readJsonAnswer({ url, token }: { url: string; token: string }): Promise<number> {
  const agent = new Agent({ keepAlive: true });
  try {
    const req = request(url + echoPath, { method: "POST", agent, headers: jsonHeaders(token) });
    // As the load: it stays open without being asked to.
    req.removeHeader("connection");
    req.end(jsonMessage);
    const [res] = (await once(req, "response")) as [IncomingMessage];
    const { socket } = res;
    const body = await buffer(res);
    assert.equal(`${res.statusCode} ${body}`, `200 ${jsonMessage}`);
    return socket.bytesRead;
  } finally {
    agent.destroy();
  }
}

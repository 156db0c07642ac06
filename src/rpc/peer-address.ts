/** Whose request it is, as the request log has it. */
import { isIP } from "node:net";
import type { FastifyRequest } from "fastify";
import { withoutPort } from "../auth/address-range.ts";

/**
 * The address of the socket's peer, or what a trusted proxy says that it is. A
 * forwarded text that is no address is not believed: Postgres would refuse it, and
 * with it every row of its batch.
 */
export function peerAddress(req: FastifyRequest): string {
  const said = plain(req.ip);
  return isIP(said) === 0 ? plain(req.socket.remoteAddress ?? "") : said;
}

/** IPv4 that came in over IPv6 as IPv4; without the zone of a link-local address and the port that some proxies add. */
function plain(address: string): string {
  return withoutPort(address)
    .replace(/^::ffff:(?=\d+\.)/i, "")
    .replace(/%.*$/, "");
}

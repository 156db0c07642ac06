/** Whose request it is, as the request log has it. */
import { isIP } from "node:net";

/** What a request of Fastify, Express or Node says of its sender. */
export interface PeerRequest {
  /** As the host's own trust in proxies has it. */
  readonly ip?: string | undefined;
  readonly socket: { readonly remoteAddress?: string | undefined };
}

/**
 * The address of the socket's peer, or what a trusted proxy says that it is. A
 * forwarded text that is no address is not believed: Postgres would refuse it, and
 * with it every row of its batch.
 */
export function peerAddress(req: PeerRequest): string {
  const said = plain(req.ip ?? "");
  return isIP(said) === 0 ? plain(req.socket.remoteAddress ?? "") : said;
}

/** IPv4 that came in over IPv6 as IPv4; without the zone of a link-local address and the port that some proxies add. */
function plain(address: string): string {
  return address
    .replace(/^(\d+(?:\.\d+){3}):\d+$|^\[(.+)\](?::\d+)?$/, "$1$2")
    .replace(/^::ffff:(?=\d+\.)/i, "")
    .replace(/%.*$/, "");
}

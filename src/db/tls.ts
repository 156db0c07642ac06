/** TLS to Postgres, as its protocol begins it. */
import { once } from "node:events";
import net from "node:net";
import tls from "node:tls";
import type postgres from "postgres";
import { connectionError } from "./connection-error.ts";

/** What postgres.js has read out of `sslmode`, `ssl` and `sslnegotiation`, be it of a URL, of options or of the environment. */
export interface TlsSettings {
  readonly ssl: postgres.ParsedOptions["ssl"] | "verify-full" | string | null | undefined;
  /** "direct": without asking first (Postgres 17). */
  readonly sslnegotiation: unknown;
}

const sslRequest = Buffer.from([0, 0, 0, 8, 4, 210, 22, 47]);
/** Modes that encrypt without asking who is there. */
const unverified = new Set<unknown>(["require", "prefer", "allow"]);

/**
 * Speaks TLS on a connected socket where the settings ask for it; resolves with the socket to use from
 * here on. Rejects where the server has no TLS, or is not who it should be. A unix socket stays as it is.
 */
export async function secure(
  socket: net.Socket,
  host: string,
  { ssl, sslnegotiation }: TlsSettings,
  signal: AbortSignal,
): Promise<net.Socket> {
  if (!ssl) return socket;
  const direct = sslnegotiation === "direct";
  if (!direct && !(await hasTls(socket, signal))) {
    if (ssl === "prefer") return socket;
    throw connectionError(
      "TLS_REFUSED",
      "the database server has no TLS: switch it on there, or connect with sslmode=disable",
    );
  }
  const secured = tls.connect({
    socket,
    host,
    ...(net.isIP(host) === 0 && { servername: host }),
    ...(direct && { ALPNProtocols: ["postgresql"] }),
    ...(unverified.has(ssl) && { rejectUnauthorized: false }),
    ...(typeof ssl === "object" && ssl),
  });
  try {
    await once(secured, "secureConnect", { signal });
    if (direct && secured.alpnProtocol !== "postgresql")
      throw connectionError("TLS_REFUSED", "who answers at the database's address is no Postgres");
  } catch (error) {
    secured.on("error", () => {}).destroy();
    throw error;
  }
  return secured;
}

async function hasTls(socket: net.Socket, signal: AbortSignal): Promise<boolean> {
  socket.write(sslRequest);
  const [answer] = (await Promise.race([
    once(socket, "data", { signal }),
    once(socket, "close", { signal }).then(() => {
      throw connectionError(
        "CONNECTION_CLOSED",
        "the database server ended the connection when asked for TLS",
      );
    }),
  ])) as [Buffer];
  // More than the one byte would be of somebody in between, who says in plain text what is to be taken for encrypted.
  const said = answer.toString("latin1");
  if (said !== "S" && said !== "N")
    throw connectionError("TLS_REFUSED", "the database server answered something else when asked for TLS");
  return said === "S";
}

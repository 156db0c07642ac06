import type { Socket } from "node:net";

/** What the first bytes of a connection say it speaks. */
export type Protocol = "http1" | "http2" | "tls";

// RFC 9113, section 3.4: the preface is 24 bytes; these 14 are no valid HTTP/1.1 request line.
const PREFACE = Buffer.from("PRI * HTTP/2.0", "latin1");
const TLS_HANDSHAKE = 0x16; // RFC 8446, section 5.1: ContentType of a ClientHello's record

/**
 * Names the protocol that a connection's first bytes begin, undefined while they may still become either
 * HTTP/1.1 or HTTP/2 (a method such as PROPFIND shares two bytes with the preface). Needs at least one byte.
 */
export function classify(seen: Buffer): Protocol | undefined {
  if (seen[0] === TLS_HANDSHAKE) return "tls";
  const length = Math.min(seen.length, PREFACE.length);
  if (seen.compare(PREFACE, 0, length, 0, length) !== 0) return "http1";
  return length === PREFACE.length ? "http2" : undefined;
}

/**
 * Reads from a new socket until its protocol is known, puts the bytes back and calls `decided`. A socket that
 * closes first or takes longer than `timeoutMs` in all (dripping bytes does not extend it) is destroyed, and
 * `decided` is never called.
 */
export function sniff(socket: Socket, timeoutMs: number, decided: (protocol: Protocol) => void): void {
  let seen: Buffer = Buffer.alloc(0);
  const giveUp = () => socket.destroy();
  let lastChance: NodeJS.Immediate | undefined;
  const deadline = setTimeout(() => {
    // After a busy while, timers run before what has long arrived is read: that first.
    lastChance = setImmediate(giveUp);
  }, timeoutMs);
  const stop = () => {
    clearTimeout(deadline);
    clearImmediate(lastChance);
    socket.off("readable", onReadable).off("end", giveUp).off("close", stop);
  };
  const onReadable = () => {
    const chunk: Buffer | null = socket.read();
    if (chunk === null) return;
    seen = seen.length === 0 ? chunk : Buffer.concat([seen, chunk]);
    const protocol = classify(seen);
    if (protocol === undefined) return;
    stop();
    // The next owner attaches in this tick, before any further read: it sees the stream from byte one.
    socket.unshift(seen);
    decided(protocol);
  };
  socket.on("readable", onReadable).on("end", giveUp).on("close", stop);
}

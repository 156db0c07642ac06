/** A TCP port before Postgres' unix socket: where the network between a server and its database fails. */
import net from "node:net";

export interface DatabaseProxy {
  readonly port: number;
  /** The directory of the socket that new connections go to; undefined: they are refused. */
  target: string | undefined;
  /** Milliseconds by which each message to the database comes later. */
  delayMs: number;
  /** Milliseconds by which each message from it comes later. */
  answerDelayMs: number;
  /** The URL of a database behind it. */
  url(directUrl: string): string;
  /** Nothing passes any more on what is open now, and nobody is told; what is opened later passes. */
  silence(): void;
  /** How many connections are open, silenced ones too. */
  readonly open: number;
  close(): void;
}

interface Pair {
  client: net.Socket;
  upstream: net.Socket;
  silent: boolean;
}

export async function startDatabaseProxy(target: string): Promise<DatabaseProxy> {
  const pairs = new Set<Pair>();
  const server = net.createServer((client) => {
    if (proxy.target === undefined) return client.resetAndDestroy();
    const upstream = net.connect(`${proxy.target}/.s.PGSQL.5432`);
    const pair = { client, upstream, silent: false };
    pairs.add(pair);
    const pass = (to: net.Socket, delayMs: () => number) => (bytes: Buffer) => {
      const send = () => {
        if (!pair.silent) to.write(bytes);
      };
      // Timers of one length fire in the order in which they were set.
      if (delayMs() > 0) setTimeout(send, delayMs());
      else send();
    };
    client.on(
      "data",
      pass(upstream, () => proxy.delayMs),
    );
    upstream.on(
      "data",
      pass(client, () => proxy.answerDelayMs),
    );
    const end = (other: net.Socket) => () => {
      if (pair.silent) return;
      pairs.delete(pair);
      other.destroy();
    };
    for (const [socket, other] of [[client, upstream] as const, [upstream, client] as const]) {
      socket.on("error", () => {}).on("close", end(other));
    }
    // The server's end of what its client has given up.
    client.on("close", () => {
      pairs.delete(pair);
      upstream.destroy();
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as net.AddressInfo;
  const proxy: DatabaseProxy = {
    port,
    target,
    delayMs: 0,
    answerDelayMs: 0,
    url(directUrl) {
      const { username, pathname } = new URL(directUrl);
      return `postgres://${username}@127.0.0.1:${port}${pathname}`;
    },
    silence() {
      for (const pair of pairs) pair.silent = true;
    },
    get open() {
      return pairs.size;
    },
    close() {
      server.close();
      for (const { client, upstream } of pairs) for (const socket of [client, upstream]) socket.destroy();
    },
  };
  return proxy;
}

/**
 * Connections of one port, each given to the worker that has the fewest.
 *
 * The primary accepts and hands over, rather than that the workers accept by themselves,
 * because gRPC connections are few, last for days and carry all of a client's calls:
 *
 * - With SO_REUSEPORT the kernel picks a worker by a hash of the addresses. Of eight
 *   connections one of two workers gets six or more in 29 of 100 cases, for days. What
 *   waits in the queue of a worker that is killed is reset, and a worker that has been
 *   replaced starts with nothing and stays so. It is Linux's alone.
 * - A listening socket that all share goes to whoever wakes first, which is the same one
 *   mostly, while the load is low.
 * - node:cluster in turn hands over too, but forgets a connection that is on its way to a
 *   worker which is killed (its client waits for ever), and closes the port while no worker
 *   is up.
 *
 * Here a connection stays open in the primary until a worker has said that it took it, so
 * one that is on its way to a killed worker is given to another; while there is none, it
 * waits. The cost is one message a connection, none a call: the primary never sees a byte.
 */
import type { ChildProcess } from "node:child_process";
import { createServer, type Server, type Socket } from "node:net";
import type { ToWorker } from "./worker-messages.ts";

/** More would wait while no worker is up; they are closed. */
const mostWaiting = 1000;

export interface Connections {
  /** Owns the port. */
  readonly server: Server;
  /** From now on the worker is given connections. */
  add(worker: ChildProcess): void;
  /** No more connections for it; those that it has stay its own. */
  retire(worker: ChildProcess): void;
  /** It has ended, and all that it said has been heard: what it did not take is another's. */
  remove(worker: ChildProcess): void;
  onTaken(worker: ChildProcess, id: number): void;
  onRefused(worker: ChildProcess, id: number): void;
  onEnded(worker: ChildProcess): void;
  /** Gives the port up, and what waits. */
  close(): void;
}

interface Share {
  /** Connections that it has, and that are on their way to it. */
  open: number;
  retired: boolean;
  readonly onTheWay: Map<number, Socket>;
}

export function createConnections(): Connections {
  const shares = new Map<ChildProcess, Share>();
  let waiting: Socket[] = [];
  let lastId = 0;
  let closed = false;
  // Nothing is read here: every byte is the worker's.
  const server = createServer({ pauseOnConnect: true, allowHalfOpen: true }, (socket) => {
    socket.on("error", () => {});
    give(socket);
  });

  function give(socket: Socket): void {
    if (closed) socket.destroy();
    if (socket.destroyed) return;
    const [worker, share] = fewest();
    if (worker === undefined || share === undefined) {
      waiting.push(socket);
      if (waiting.length > mostWaiting) waiting.shift()?.destroy();
      return;
    }
    const id = ++lastId;
    share.open++;
    share.onTheWay.set(id, socket);
    // Without this, fork would keep a list of its own of the sockets of a server, and ask the workers about it.
    Object.assign(socket, { server: undefined });
    const message: ToWorker = { kind: "connection", id };
    // Where it cannot be sent, the worker's end is near, and `remove` sees to it.
    worker.send(message, socket, { keepOpen: true }, () => {});
  }

  /** Of several with as few, the one that waits longest. */
  function fewest(): [ChildProcess?, Share?] {
    let best: [ChildProcess, Share] | undefined;
    for (const entry of shares) {
      if (!entry[1].retired && entry[0].connected && entry[1].open < (best?.[1].open ?? Infinity))
        best = entry;
    }
    if (best === undefined) return [];
    // To the end of the line.
    shares.delete(best[0]);
    shares.set(...best);
    return best;
  }

  function takeBack(worker: ChildProcess, id: number): Socket | undefined {
    const share = shares.get(worker);
    const socket = share?.onTheWay.get(id);
    share?.onTheWay.delete(id);
    return socket;
  }

  return {
    server,
    add(worker) {
      shares.set(worker, { open: 0, retired: false, onTheWay: new Map() });
      const waited = waiting;
      waiting = [];
      for (const socket of waited) give(socket);
    },
    retire(worker) {
      const share = shares.get(worker);
      if (share !== undefined) share.retired = true;
    },
    remove(worker) {
      const share = shares.get(worker);
      shares.delete(worker);
      for (const socket of share?.onTheWay.values() ?? []) give(socket);
    },
    onTaken: (worker, id) => void takeBack(worker, id)?.destroy(),
    onRefused(worker, id) {
      const share = shares.get(worker);
      if (share !== undefined) share.open--;
      const socket = takeBack(worker, id);
      if (socket !== undefined) give(socket);
    },
    onEnded(worker) {
      const share = shares.get(worker);
      if (share !== undefined) share.open--;
    },
    close() {
      closed = true;
      if (server.listening) server.close();
      for (const socket of waiting) socket.destroy();
      waiting = [];
    },
  };
}

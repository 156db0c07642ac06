/**
 * Preloaded into a server that is measured (`node --expose-gc --import …`): says over a
 * socket of its own, next to the data, what its heap holds after a collection.
 */
import { rmSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";

const directory = process.env.SOAK_HEAP_DIR;
if (directory !== undefined) {
  const server = createServer((socket) => {
    socket.on("error", () => {});
    globalThis.gc?.();
    socket.end(JSON.stringify(process.memoryUsage()));
  });
  const path = join(directory, `heap-${process.pid}`);
  rmSync(path, { force: true });
  // Exclusive: a worker of a cluster would share its primary's.
  server.listen({ path, exclusive: true });
  server.unref();
}

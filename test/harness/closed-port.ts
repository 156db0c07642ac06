/** A port of 127.0.0.1 on which nobody listens. */
import { once } from "node:events";
import net from "node:net";

export async function closedPort(): Promise<number> {
  const server = net.createServer();
  await once(server.listen(0, "127.0.0.1"), "listening");
  const { port } = server.address() as net.AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

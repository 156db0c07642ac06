/** How a server on this machine is called. */

/** Host and port for a URL of a command on this machine, where the server listens on all addresses too. */
export function authorityOf(listening: { readonly address: string; readonly port: number }): string {
  const host = reachableHost(listening.address);
  return `${host.includes(":") ? `[${host}]` : host}:${listening.port}`;
}

function reachableHost(address: string): string {
  if (address === "0.0.0.0") return "127.0.0.1";
  return address === "::" ? "::1" : address;
}

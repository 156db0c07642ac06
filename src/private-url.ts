/** Which URLs a token may be sent to without being asked for it. Of the client's side: it runs in browsers too. */

/** Whether nobody on the way can read what is sent: over TLS, or within this machine. */
export function isPrivateUrl({ protocol, hostname }: URL): boolean {
  // The URL parser has written 127.1 and 0x7f000001 as 127.0.0.1 by now. What `localhost` means is
  // settled (RFC 6761, section 6.3); so are both loopback ranges (RFC 1122, RFC 4291). Names below
  // it are not: node asks whoever resolves names.
  return protocol === "https:" || /^(localhost|127(\.\d+){3}|\[::1\])$/.test(hostname);
}

/** The library. */

export { getPrincipal, type Principal, principalKey, requireStaff, requireUser } from "./auth/principal.ts";
export { type Config, ConfigError, readConfig } from "./config.ts";
export { createServer, type Server, type ServerOptions } from "./server.ts";

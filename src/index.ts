/**
 * The library: a server of one's own services behind API keys, and the same authentication for
 * routers of other servers. What clients need is in `latchkey/client`.
 *
 * @module
 */

export { getPrincipal, type Principal, principalKey, requireStaff, requireUser } from "./auth/principal.ts";
export type { TokenSource } from "./client.ts";
export { type Config, ConfigError, readConfig } from "./config.ts";
export { EmbeddedPostgresError } from "./db/embedded/embedded.ts";
export { PostgresTooOldError } from "./db/migrate.ts";
export { createLatchkey, type HostSetting, type Latchkey, type LatchkeyOptions } from "./latchkey.ts";
export type { Metrics } from "./metrics.ts";
export type { ProgramOptions } from "./program-options.ts";
export type { TransportOptions } from "./rpc/in-process.ts";
export type { PeerRequest } from "./rpc/peer-address.ts";
export { createServer, type Server, type ServerOptions } from "./server.ts";
export type { Labels, Metric, Sample } from "./usage/metric.ts";

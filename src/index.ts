/** The library. */

export type { Call, CallRecorder, EndedCall } from "./auth/call.ts";
export { apiKeyGate } from "./auth/gate.ts";
export { type ApiKeyInterceptorOptions, apiKeyInterceptor } from "./auth/interceptor.ts";
export { getPrincipal, type Principal, principalKey, requireStaff, requireUser } from "./auth/principal.ts";
export type { DenialReason, Verdict } from "./auth/verdict.ts";
export { type Config, ConfigError, readConfig } from "./config.ts";
export { createServer, type Server, type ServerOptions } from "./server.ts";

/** How the listeners of tests are set, unless a test is about one of these. */
import type { ListenerOptions } from "../../src/listener-options.ts";

export function listenerOptions(overrides: Partial<ListenerOptions>): ListenerOptions {
  return {
    maxHeaderBytes: 16 * 1024,
    maxStreamsPerConnection: 100,
    streamResetBurst: 1000,
    streamResetRate: 33,
    sniffTimeoutMs: 10_000,
    headersTimeoutMs: 10_000,
    keepAliveTimeoutMs: 10_000,
    requestTimeoutMs: 20_000,
    lingerMs: 50,
    ...overrides,
  };
}

/** Where verdicts come from: keys in memory behind their fence, the policy, and what asks them. */
import { type Authorizer, createAuthorizer } from "./auth/authorizer.ts";
import { createCredentialReader } from "./auth/credential.ts";
import { createOpenStreams, type OpenStreams } from "./auth/open-streams.ts";
import { type AccessRequirement, createPolicy, type Policy } from "./auth/policy.ts";
import { createSessionSecrets, type SessionSecrets } from "./auth/session-secret.ts";
import { createDecide, type Decide } from "./auth/verdict.ts";
import type { Config } from "./config.ts";
import { createSessionLookup } from "./console/session-lookup.ts";
import type { SessionLife } from "./console/session-store.ts";
import { database } from "./db/client.ts";
import type { Pools } from "./db/pools.ts";
import { createGrantCache, type GrantCache } from "./keys/cache.ts";
import { createFence, type Fence } from "./keys/fence.ts";
import { createApiKeyStore } from "./keys/store.ts";
import { createUserStore } from "./users/store.ts";

export interface VerdictsOptions {
  pools: Pools;
  config: Config;
  secretKey: string | undefined;
  /** A UUID. */
  instanceId: string;
  /** Methods that are public whatever they declare, beside the configured ones. */
  publicMethods: readonly string[];
  /** What methods require whose proto declares nothing: see `PolicyOptions`. */
  services: Readonly<Record<string, AccessRequirement>>;
  onError: (message: string, error: unknown) => void;
}

export interface Verdicts {
  readonly fence: Fence;
  readonly grants: GrantCache;
  readonly decide: Decide;
  readonly policy: Policy;
  readonly readCredential: ReturnType<typeof createCredentialReader>;
  /** The same without sessions: what a browser sends to another server than this one proves nothing here. */
  readonly readToken: ReturnType<typeof createCredentialReader>;
  readonly authorizer: Authorizer;
  readonly streams: OpenStreams;
  readonly secrets: SessionSecrets;
  close(): Promise<void>;
}

/** Creates all of it and resolves once changes are heard. Rejects, with nothing left open, where they cannot be. */
export async function createVerdicts(options: VerdictsOptions): Promise<Verdicts> {
  const { pools, config, onError } = options;
  // Nobody waits for a look-up or a heartbeat any longer, and a connection that says nothing is soon given up.
  const timeoutMs = Math.max(1000, config.cacheMaxStalenessMs);
  const lookupDb = database(pools.open("verdicts", 4, timeoutMs));
  const fence = await createFence({
    connectListener: pools.listen,
    heartbeat: pools.open("heartbeat", 1, timeoutMs),
    instanceId: options.instanceId,
    maxStalenessMs: config.cacheMaxStalenessMs,
    onError,
  });
  const keys = createApiKeyStore(lookupDb);
  const grants = createGrantCache({
    readGrants: keys.readGrants,
    readSessions: createSessionLookup(lookupDb, sessionLife(config)),
    hasImportedKeys: keys.hasImported,
    readFirstStaffUser: createUserStore(lookupDb).firstStaffUser,
    fence,
    maxStalenessMs: config.cacheMaxStalenessMs,
    staleIfErrorMs: config.cacheStaleIfErrorMs,
    maxEntries: config.cacheMaxEntries,
  });
  const policy = createPolicy({
    requireAuth: config.requireAuth,
    publicMethods: [...config.publicMethods, ...options.publicMethods],
    services: options.services,
  });
  const decide = createDecide({ authEnabled: config.authEnabled, grants });
  const secrets = createSessionSecrets({ ...config, secretKey: options.secretKey });
  const tokens = { ...config, secretKey: options.secretKey };
  const readToken = createCredentialReader({ ...tokens, sessions: undefined });
  const readCredential = createCredentialReader({
    ...tokens,
    sessions: config.console ? secrets : undefined,
  });
  const authorizer = createAuthorizer({ decide, policy, readCredential, apiKeyHeader: config.apiKeyHeader });
  const streams = createOpenStreams({
    authorizer,
    grants,
    recheckMs: config.cacheMaxStalenessMs / 2,
    onError: (error) => onError("open streams could not be checked", error),
  });
  return {
    fence,
    grants,
    decide,
    policy,
    readCredential,
    readToken,
    authorizer,
    streams,
    secrets,
    async close() {
      streams.close();
      await fence.close();
    },
  };
}

/** How long sessions last by the settings. */
export function sessionLife({ sessionMaxHours, sessionIdleMinutes }: Config): SessionLife {
  return { maxAgeMs: sessionMaxHours * 3_600_000, maxIdleMs: sessionIdleMinutes * 60_000 };
}

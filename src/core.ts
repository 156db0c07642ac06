/** What verdicts and counting need, whoever serves the RPCs: the database, keys in memory, the recorder. */
import { hostname } from "node:os";
import type { DescService } from "@bufbuild/protobuf";
import type { ConnectRouter } from "@connectrpc/connect";
import { v7 as uuidv7 } from "uuid";
import type { CallRecorder } from "./auth/call.ts";
import type { InquiryOptions } from "./auth/inquiry.ts";
import type { MethodName } from "./auth/method-name.ts";
import { acceptedSecretKey } from "./auth/secret-key.ts";
import { createRedactor } from "./auth/token.ts";
import { type Config, showSettings } from "./config.ts";
import { database } from "./db/client.ts";
import { createHousekeeping } from "./db/housekeeping.ts";
import { migrate } from "./db/migrate.ts";
import { type OpenedDatabase, openDatabase } from "./db/open.ts";
import { createPools } from "./db/pools.ts";
import { keepPresence } from "./db/presence.ts";
import { Authorization } from "./gen/envoy/service/auth/v3/external_auth_pb.js";
import { Health as HealthService } from "./gen/health/v1/health_pb.js";
import { createLogTails, type LogTails } from "./logs/tail.ts";
import { createTailStore } from "./logs/tail-store.ts";
import type { MetricsOptions } from "./metrics.ts";
import type { ProgramOptions } from "./program-options.ts";
import { createMethodLister, type MethodLister, readComments } from "./rpc/method-list.ts";
import { recordTraces } from "./rpc/traces.ts";
import { infrastructure, mountServices } from "./services.ts";
import { countCalls, createCallMetrics } from "./usage/call-metrics.ts";
import { createCommitMetrics } from "./usage/commit-metrics.ts";
import { keepFolded } from "./usage/fold.ts";
import { foldedUntil } from "./usage/fold-store.ts";
import { createPackStore } from "./usage/pack-store.ts";
import { createRecorder } from "./usage/recorder.ts";
import { createUsageStore } from "./usage/store.ts";
import { createUnpacking } from "./usage/unpack.ts";
import { seedUsers } from "./users/seed.ts";
import { createVerdicts, sessionLife, type Verdicts } from "./verdicts.ts";
import { packageVersion } from "./version.ts";

/** What is to be closed at the end, the first one first. */
export type Closers = (() => Promise<unknown>)[];

/** A database of this version's schema. */
export interface ReadyDatabase extends OpenedDatabase {
  /** Undefined: none is accepted. */
  readonly secretKey: string | undefined;
}

/** Opens and migrates the database, and reads the secret key. */
export async function readyDatabase(
  config: Config,
  options: ProgramOptions,
  closers: Closers,
): Promise<ReadyDatabase> {
  const { sql, onProgress } = options;
  const opened = await openDatabase({ ...config, sql, ...(onProgress && { onProgress }) });
  closers.unshift(() => opened.close());
  await migrate(opened.listenAddress);
  return { ...opened, secretKey: await acceptedSecretKey(config) };
}

export interface Core {
  readonly verdicts: Verdicts;
  readonly recorder: CallRecorder;
  readonly tails: LogTails;
  /** What of it metrics show. */
  readonly figures: Pick<
    MetricsOptions,
    "version" | "verdicts" | "usage" | "packs" | "pools" | "tails" | "counted"
  >;
  /** Makes a method known to the metrics: only what is mounted has its name in them. */
  mounted(method: MethodName): void;
  /** What asks for verdicts on others' behalf. */
  readonly inquiries: InquiryOptions;
  /** Mounts the services that manage and watch. `runningRpcs` says how many run, where the host knows. */
  mountServices(router: ConnectRouter, runningRpcs?: () => number): void;
}

/** Joins the parts on a database, and has them closed in their order. */
export async function createCore(
  config: Config,
  { tracerProvider }: Pick<ProgramOptions, "tracerProvider">,
  opened: ReadyDatabase,
  closers: Closers,
  onError: (message: string, error: unknown) => void,
): Promise<Core> {
  const pools = createPools(opened, config.listenDatabaseUrl !== undefined);
  closers.unshift(() => pools.close());
  const db = database(pools.open("requests", 10));
  const housekeeping = createHousekeeping({
    db: database(pools.open("housekeeping", 1)),
    ...config,
    foldedUntil,
    onError,
  });
  closers.unshift(() => housekeeping.close());
  await housekeeping.start();
  if (!config.production) await seedUsers(db);

  const instance = {
    id: uuidv7(),
    hostname: hostname(),
    pid: process.pid,
    version: packageVersion,
    startedAt: new Date(),
  };
  const verdicts = await createVerdicts({
    pools,
    config,
    secretKey: opened.secretKey,
    instanceId: instance.id,
    publicMethods: [`${HealthService.typeName}/*`],
    services: { [Authorization.typeName]: "authenticated" },
    onError,
  });
  closers.unshift(() => verdicts.close());

  const tails = createLogTails({
    store: createTailStore(database(pools.open("tail", 1)), instance.id),
    onError,
  });
  closers.unshift(() => tails.close());

  const unlogged = new Set(config.logInfrastructure ? [] : infrastructure.map((service) => service.typeName));
  const redact = createRedactor(config.tokenPrefix);
  const commits = createCommitMetrics();
  const packs = createUnpacking({ store: createPackStore(database(pools.open("packs", 1)), db), onError });
  closers.unshift(() => packs.close());
  const usage = createRecorder({
    write: commits.watch(createUsageStore({ db: database(pools.open("usage", 1)), instance, redact })),
    durability: config.usageDurability,
    packs,
    packAbove: config.logPackAbove,
    records: (method) => !unlogged.has(method.service),
    onError,
  });
  closers.unshift(() => usage.close(Math.max(1000, config.shutdownTimeoutMs)));
  const calls = createCallMetrics();
  const counted = config.metricsPort === undefined ? usage : countCalls(usage, calls);
  const recorder = recordTraces(counted, { provider: tracerProvider, redact });

  // An hour of a million keys takes a while.
  const folding = keepFolded(database(pools.open("rollups", 1, 600_000)), onError);
  closers.unshift(async () => folding.stop());

  const presence = keepPresence(db, instance, onError);
  closers.unshift(() => presence.stop());

  const comments = await readComments();
  const { decide, policy, readToken } = verdicts;
  const { apiKeyHeader } = config;
  const inquiries = { decide, policy, readCredential: readToken, apiKeyHeader, recorder };
  return {
    inquiries,
    verdicts,
    recorder,
    tails,
    figures: { version: instance.version, verdicts, usage, packs, pools, tails, counted: [calls, commits] },
    mounted: calls.mounted,
    mountServices(router, runningRpcs = () => 0) {
      const own: DescService[] = [];
      let methods: MethodLister | undefined;
      const servicesOf = () => [...new Set(router.handlers.map((handler) => handler.service))];
      mountServices(router, {
        db,
        // A change that is answered applies here: whoever revokes a key may count on it.
        async transact(change) {
          const changed = await db.transaction(change);
          await verdicts.fence.caughtUp();
          return changed;
        },
        tokenPrefix: config.tokenPrefix,
        inquiries,
        tails,
        isIncomplete: packs.look,
        sessions: { ...verdicts, ...config, life: sessionLife(config), closed: whySignInIsClosed(config) },
        server: {
          ...config,
          instance,
          settings: showSettings(config),
          database: opened.description,
          state: () => ({ changesHeard: verdicts.fence.isFresh(), runningRpcs: runningRpcs() }),
          authorizer: verdicts.authorizer,
          methods() {
            methods ??= createMethodLister({
              services: servicesOf(),
              own: new Set(own),
              policy: verdicts.policy,
              comments,
            });
            return methods;
          },
        },
      });
      own.push(...servicesOf());
    },
  };
}

function whySignInIsClosed(config: Config): string | undefined {
  if (!config.authEnabled) return "authentication is switched off: there is nobody to sign in";
  return config.console ? undefined : "the console is switched off: set LATCHKEY_CONSOLE=true";
}

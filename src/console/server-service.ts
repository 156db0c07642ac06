/** `latchkey.v1.ServerService`. */
import type { DescMethod } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import type { HandlerContext, ServiceImpl } from "@connectrpc/connect";
import { type Authorizer, authorizationKey } from "../auth/authorizer.ts";
import { requireStaff, requireUser } from "../auth/principal.ts";
import type { ShownSetting } from "../config.ts";
import type { Database } from "../db/client.ts";
import type { Instance } from "../db/presence.ts";
import { InstanceState, type ServerService } from "../gen/latchkey/v1/server_service_pb.js";
import type { MethodLister } from "../rpc/method-list.ts";
import { within } from "../within.ts";
import { type ListedInstance, measureLatency, readDatabaseState } from "./server-store.ts";

export interface ServerServiceOptions {
  db: Database;
  instance: Instance;
  settings: readonly ShownSetting[];
  /** Where the database is, without its password. */
  database: string;
  /** Of this moment. */
  state: () => { readonly changesHeard: boolean; readonly runningRpcs: number };
  authorizer: Authorizer;
  /** Asked once all is mounted. */
  methods: () => MethodLister;
  apiKeyHeader: string;
  tokenPrefix: string;
  reflection: boolean;
}

/** Whoever looks at a server that is not well must not wait for its database. */
const longestReadMs = 3000;

const states: Readonly<Record<ListedInstance["state"], InstanceState>> = {
  running: InstanceState.RUNNING,
  stopped: InstanceState.STOPPED,
  lost: InstanceState.LOST,
};

export function createServerService(options: ServerServiceOptions): ServiceImpl<typeof ServerService> {
  const { db, instance } = options;
  const startedMs = performance.now();

  /** What the caller's credential may call: as each call would be decided. */
  async function callableOf(methods: readonly DescMethod[], context: HandlerContext) {
    const authorization = context.values.get(authorizationKey);
    const callable = new Set<DescMethod>();
    for (const method of methods) {
      if (authorization === undefined) break;
      const { error } = await options.authorizer.recheck(method, authorization);
      if (error === undefined) callable.add(method);
    }
    return callable;
  }

  async function lookAtDatabase() {
    try {
      const [state, latencyMs] = await within(
        longestReadMs,
        // One after the other: the first connection takes longer than an answer does.
        readDatabaseState(db).then(async (read) => [read, await measureLatency(db)] as const),
      );
      return { ...state, latencyMs };
    } catch {
      return undefined;
    }
  }

  return {
    async getServer(_, context) {
      requireStaff(context);
      const found = await lookAtDatabase();
      const { changesHeard, runningRpcs } = options.state();
      return {
        version: instance.version,
        instanceId: instance.id,
        startedAt: timestampFromDate(instance.startedAt),
        uptime: duration(performance.now() - startedMs),
        instances: (found?.instances ?? [{ ...instance, seenAt: new Date(), state: "running" as const }]).map(
          ({ startedAt, seenAt, state, ...rest }) => ({
            ...rest,
            startedAt: timestampFromDate(startedAt),
            seenAt: timestampFromDate(seenAt),
            state: states[state],
            current: rest.id === instance.id,
          }),
        ),
        settings: options.settings.map((setting) => ({ ...setting })),
        health: {
          databaseUp: found !== undefined,
          database: options.database,
          databaseVersion: found?.version ?? "",
          ...(found && { databaseLatency: duration(found.latencyMs) }),
          migrationsKnown: found?.migrations.known ?? 0,
          migrationsApplied: found?.migrations.applied ?? 0,
          changesHeard,
          runningRpcs,
        },
        ...(found && { counts: { ...found.counts } }),
        nodeVersion: process.version,
      };
    },

    async listMethods(_, context) {
      const principal = requireUser(context);
      const lister = options.methods();
      const callable = await callableOf(lister.methods, context);
      const { services, fileDescriptorSet } = lister.list(callable, principal.isStaff);
      return {
        services,
        fileDescriptorSet,
        apiKeyHeader: options.apiKeyHeader,
        tokenPrefix: options.tokenPrefix,
        reflection: options.reflection,
      };
    },
  };
}

/** Of milliseconds and parts of them. */
function duration(ms: number): { seconds: bigint; nanos: number } {
  const us = Math.round(ms * 1000);
  return { seconds: BigInt(Math.floor(us / 1_000_000)), nanos: (us % 1_000_000) * 1000 };
}

/** Latchkey's own services over their stores: what every server mounts. */
import type { DescService } from "@bufbuild/protobuf";
import type { ConnectRouter } from "@connectrpc/connect";
import { createExtAuthz } from "./auth/ext-authz.ts";
import type { InquiryOptions } from "./auth/inquiry.ts";
import { createServerService, type ServerServiceOptions } from "./console/server-service.ts";
import { createSessionService, type SessionServiceOptions } from "./console/session-service.ts";
import { createSessionStore, type SessionLife } from "./console/session-store.ts";
import type { Database, Transact } from "./db/client.ts";
import { UserService } from "./gen/api/users/user_service_pb.js";
import { Authorization } from "./gen/envoy/service/auth/v3/external_auth_pb.js";
import { ServerReflection } from "./gen/grpc/reflection/v1/reflection_pb.js";
import { ServerReflection as ServerReflectionAlpha } from "./gen/grpc/reflection/v1alpha/reflection_pb.js";
import { Health as HealthService } from "./gen/health/v1/health_pb.js";
import { ApiKeyService } from "./gen/latchkey/v1/api_key_service_pb.js";
import { AuditLogService } from "./gen/latchkey/v1/audit_log_service_pb.js";
import { RequestLogService } from "./gen/latchkey/v1/request_log_service_pb.js";
import { ServerService } from "./gen/latchkey/v1/server_service_pb.js";
import { SessionService } from "./gen/latchkey/v1/session_service_pb.js";
import { StatsService } from "./gen/latchkey/v1/stats_service_pb.js";
import { UserAdminService } from "./gen/latchkey/v1/user_admin_service_pb.js";
import { createApiKeyChanges } from "./keys/changes.ts";
import { createImport } from "./keys/import.ts";
import { createImportStore } from "./keys/import-store.ts";
import { createApiKeyService } from "./keys/service.ts";
import { createApiKeyStore } from "./keys/store.ts";
import { createVerification } from "./keys/verify.ts";
import { createAuditLogService } from "./logs/audit-service.ts";
import { createAuditStore } from "./logs/audit-store.ts";
import { createRequestLogService } from "./logs/service.ts";
import { createRequestLogStore } from "./logs/store.ts";
import type { LogTails } from "./logs/tail.ts";
import { type Health, healthService } from "./rpc/health.ts";
import { reflectionRoutes } from "./rpc/reflection.ts";
import { createStatsService } from "./usage/stats-service.ts";
import { createStatsStore } from "./usage/stats-store.ts";
import { createUserAdminService } from "./users/admin-service.ts";
import { createUserChanges } from "./users/changes.ts";
import { createUserService } from "./users/service.ts";
import { createUserStore } from "./users/store.ts";

export interface ServicesOptions {
  sessions: Omit<SessionServiceOptions, "sessions" | "keys"> & { life: SessionLife };
  server: Omit<ServerServiceOptions, "db">;
  db: Database;
  transact: Transact;
  tokenPrefix: string;
  /** How VerifyApiKey and Envoy's Check come to their verdicts: as the server does. */
  inquiries: InquiryOptions;
  tails: LogTails;
  /** Whether rows are not in the request log yet. Asking for it brings them there. */
  isIncomplete: () => Promise<boolean>;
}

/** Mounts the services that manage and watch. */
export function mountServices(router: ConnectRouter, options: ServicesOptions): void {
  const { db, transact } = options;
  const users = createUserStore(db);
  const changes = createUserChanges(transact);
  router.service(UserService, createUserService(users, changes));
  router.service(UserAdminService, createUserAdminService(users, changes));
  const keys = createApiKeyStore(db);
  router.service(ApiKeyService, {
    ...createApiKeyService({
      keys,
      changes: createApiKeyChanges(transact),
      tokenPrefix: options.tokenPrefix,
    }),
    ...createVerification(options.inquiries),
    ...createImport({ imports: createImportStore(transact) }),
  });
  router.service(Authorization, createExtAuthz(options.inquiries));
  const logs = createRequestLogStore(db);
  router.service(RequestLogService, createRequestLogService({ logs, ...options }));
  router.service(StatsService, createStatsService(createStatsStore(db)));
  router.service(AuditLogService, createAuditLogService(createAuditStore(db)));
  const sessions = createSessionStore(db, transact, options.sessions.life);
  router.service(SessionService, createSessionService({ ...options.sessions, sessions, keys }));
  router.service(ServerService, createServerService({ ...options.server, db }));
}

/** The services that every server has for other programs' sake; their RPCs are not logged unless asked. */
export const infrastructure: readonly DescService[] = [
  HealthService,
  ServerReflection,
  ServerReflectionAlpha,
];

/** Mounts health, and reflection where it is asked for, over all that is mounted before. */
export function mountInfrastructure(router: ConnectRouter, health: Health, reflection: boolean): void {
  router.service(HealthService, healthService(health));
  const services = [...new Set(router.handlers.map((handler) => handler.service))];
  for (const service of services) health.setServiceServing(service.typeName, true);
  if (reflection) reflectionRoutes(services)(router);
}

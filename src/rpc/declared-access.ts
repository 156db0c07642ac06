/** What is asked of the routes before they are served. */
import type { DescService } from "@bufbuild/protobuf";
import type { UniversalHandler } from "@connectrpc/connect/protocol";
import type { Policy } from "../auth/policy.ts";
import { ConfigError } from "../config.ts";

/**
 * Works out now, rather than at the first call, what every method requires. Throws for a level that
 * this version does not know and, where each method must declare its access, a {@link ConfigError}
 * that names those that do not. Services that are not ours to change are exempt from that.
 */
export function checkAccess(
  handlers: readonly UniversalHandler[],
  policy: Policy,
  declared: { required: boolean; exempt: readonly DescService[] },
): void {
  for (const { method } of handlers) policy.of(method);
  if (!declared.required) return;
  const exempt = new Set(declared.exempt.map((service) => service.typeName));
  const undeclared = handlers
    .filter(({ method, service }) => !exempt.has(service.typeName) && !policy.isDeclared(method))
    .map(({ method, service }) => `${service.typeName}/${method.name}`);
  if (undeclared.length === 0) return;
  throw new ConfigError(
    `these methods declare no access: ${undeclared.join(", ")}. Say in their proto who may call them, with option (latchkey.v1.access) or (latchkey.v1.service_access), or list them in LATCHKEY_PUBLIC_METHODS; LATCHKEY_REQUIRE_DECLARED_ACCESS asks for it`,
  );
}

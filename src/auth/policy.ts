/** What each method requires of its caller. */
import { type DescMethod, type DescService, getOption, hasOption } from "@bufbuild/protobuf";
import { AccessLevel, access, service_access } from "../gen/latchkey/v1/access_pb.js";
import type { MethodName } from "./method-name.ts";

/** From least to most: see `latchkey/v1/access.proto`. */
export type AccessRequirement = "public" | "optional" | "authenticated" | "staff";

export interface PolicyOptions {
  /** Methods that declare nothing need a principal. */
  requireAuth: boolean;
  /** `package.Service/Method` or `package.Service/*`: public, whatever they declare. */
  publicMethods: readonly string[];
  /** By full service name: what the methods of a service require whose proto is another's and can declare nothing. */
  services?: Readonly<Record<string, AccessRequirement>>;
}

const byLevel: Readonly<Partial<Record<AccessLevel, AccessRequirement>>> = {
  [AccessLevel.PUBLIC]: "public",
  [AccessLevel.OPTIONAL]: "optional",
  [AccessLevel.AUTHENTICATED]: "authenticated",
  [AccessLevel.STAFF]: "staff",
};

/** Says what methods require. */
export interface Policy {
  /** Of a mounted method: listed as public, else its own option, else its service's, else the default. */
  of(method: DescMethod): AccessRequirement;
  /**
   * Of a method by its name: what `of` said of it. One that `of` was never asked
   * about is another server's: listed as public, else a principal, since what it
   * declares is not known here.
   */
  named(method: MethodName): AccessRequirement;
  /** Whether a mounted method declares what it requires: in its proto, or by being listed as public. */
  isDeclared(method: DescMethod): boolean;
  /** Whether it is a mounted method, or listed as public by its full name. */
  knows(method: MethodName): boolean;
}

/** Creates a policy. Each method is worked out once. */
export function createPolicy(options: PolicyOptions): Policy {
  const publicMethods = new Set(options.publicMethods);
  const known = new Map<DescMethod, AccessRequirement>();
  const byName = new Map<string, AccessRequirement>();

  const isPublic = (service: string, name: string) =>
    publicMethods.has(`${service}/*`) || publicMethods.has(`${service}/${name}`);

  const declared = (method: DescMethod) =>
    declaredAccess(method) ?? options.services?.[method.parent.typeName];

  function requirement(method: DescMethod): AccessRequirement {
    if (isPublic(method.parent.typeName, method.name)) return "public";
    return declared(method) ?? (options.requireAuth ? "authenticated" : "optional");
  }

  return {
    of(method) {
      const before = known.get(method);
      if (before !== undefined) return before;
      const required = requirement(method);
      known.set(method, required);
      byName.set(`${method.parent.typeName}/${method.name}`, required);
      return required;
    },
    named({ service, name }) {
      return byName.get(`${service}/${name}`) ?? (isPublic(service, name) ? "public" : "authenticated");
    },
    isDeclared: (method) => isPublic(method.parent.typeName, method.name) || declared(method) !== undefined,
    knows({ service, name }) {
      const method = `${service}/${name}`;
      return byName.has(method) || publicMethods.has(method);
    },
  };
}

/** What a method's proto declares, itself or through its service; undefined: nothing. Throws for a level that it does not know. */
export function declaredAccess(method: DescMethod): AccessRequirement | undefined {
  const own = hasOption(method, access) ? read(method, getOption(method, access).level) : undefined;
  if (own !== undefined) return own;
  const service = method.parent;
  return hasOption(service, service_access)
    ? read(service, getOption(service, service_access).level)
    : undefined;
}

/** A level that this version does not know must not open what it closes. */
function read(declared: DescMethod | DescService, level: AccessLevel): AccessRequirement | undefined {
  const required = byLevel[level];
  if (required === undefined && level !== AccessLevel.UNSPECIFIED) {
    throw new Error(
      `${declared.toString()} declares access level ${level}, which this version does not know`,
    );
  }
  return required;
}

/** The call that a new key is shown with: one that it may make, changes nothing and, where there is one, works as it stands. */
import type { DescMethod } from "@bufbuild/protobuf";
import { AccessLevel } from "../../../gen/latchkey/v1/access_pb.js";
import type { ApiKey } from "../../../gen/latchkey/v1/api_key_service_pb.js";
import { type MethodDescription, MethodKind } from "../../../gen/latchkey/v1/server_service_pb.js";
import type { Call } from "./commands.ts";
import { exampleMessage } from "./example-message.ts";
import { covers } from "./method-patterns/patterns.ts";
import { useMethods, useRegistry } from "./use-methods.ts";

interface Candidate {
  readonly service: string;
  readonly method: string;
  readonly json: string;
  /** The lowest is the best. */
  readonly rank: number;
}

/** Of the key's own methods, else the one that tells who calls. */
export function useFirstCall({ allowedMethods }: ApiKey, token: string): Call | undefined {
  const { data } = useMethods();
  const registry = useRegistry();
  if (data === undefined || registry === undefined) return undefined;
  const patterns = allowedMethods.length === 0 ? ["latchkey.v1.SessionService/GetSession"] : allowedMethods;
  const candidates = data.services.flatMap(({ name: service, methods }) =>
    methods
      .filter(
        ({ name, kind }) =>
          kind === MethodKind.UNARY && patterns.some((pattern) => covers(pattern, `${service}/${name}`)),
      )
      .map((method) => {
        const desc = registry.getService(service)?.methods.find(({ name }) => name === method.name);
        return candidate(service, method, desc);
      }),
  );
  const best = candidates.toSorted((a, b) => a.rank - b.rank)[0];
  if (best === undefined) return undefined;
  const { service, method, json } = best;
  return { service, method, json, header: data.apiKeyHeader, token };
}

const reading = /^(BatchGet|Check|Count|Describe|Find|Get|List|Read|Search)(?![a-z])/;
/** Their fields filter, and may be left out. */
const listing = /^(Count|List|Search)(?![a-z])/;

function candidate(service: string, description: MethodDescription, desc: DescMethod | undefined): Candidate {
  const { name: method, safe, access } = description;
  const changes = !safe && !reading.test(method);
  // What changes something is refused as it stands, and not done to whatever has the number 1.
  const message = desc === undefined || changes || listing.test(method) ? {} : exampleMessage(desc.input);
  const isGuessed = Object.values(message).includes("");
  return {
    service,
    method,
    json: JSON.stringify(message),
    rank: (changes ? 4 : 0) + (access === AccessLevel.STAFF ? 2 : 0) + (isGuessed ? 1 : 0),
  };
}

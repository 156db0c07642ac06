/** What a handler sees of a request, in a form that can be compared. */
import { toJson } from "@bufbuild/protobuf";
import { ConnectError, createContextKey, type HandlerContext } from "@connectrpc/connect";
import { getPrincipal } from "../../../src/auth/principal.ts";
import { type Everything, EverythingSchema, registry } from "./services.ts";

/**
 * When a handler looks at its context: at once, at all of it; only when the call is
 * over; or not at all, as most handlers do.
 */
export type Look = "all" | "late" | "nothing";

export const ownKey = createContextKey<string>("its default", { description: "equality" });

/** One call of a handler or interceptor. */
export interface Sighting {
  readonly who: string;
  readonly message: unknown;
  readonly context: HandlerContext;
  readonly look: Look;
  /** What was seen at the time of the call. */
  readonly atOnce: unknown;
  /** What the handler noted beside that. */
  readonly notes: unknown[];
  /** Whether Connect's own code called it. */
  readonly byConnect: boolean;
}

export function see(who: string, message: Everything, context: HandlerContext, look: Look): Sighting {
  return {
    who,
    message: [toJson(EverythingSchema, message, { registry }), message.$unknown?.length ?? 0],
    context,
    look,
    atOnce: look === "all" ? contents(context) : undefined,
    notes: [],
    byConnect: (new Error().stack ?? "").includes("@connectrpc/connect/"),
  };
}

/** Everything that the interface of a context has. */
export function contents(context: HandlerContext) {
  const { requestHeader, responseHeader, responseTrailer, signal, values, timeoutMs } = context;
  return {
    rpc: `${context.service.typeName}/${context.method.name}`,
    protocolName: context.protocolName,
    requestMethod: context.requestMethod,
    url: context.url,
    timeout: nearly(timeoutMs()),
    requestHeader: [...requestHeader],
    responseHeader: [...responseHeader],
    responseTrailer: [...responseTrailer],
    aborted: signal.aborted,
    principal: told(getPrincipal(context)),
    ownValue: values.get(ownKey),
    // What a handler keeps is what the next one of its lines gets.
    same: [
      context.requestHeader === requestHeader,
      context.responseHeader === responseHeader,
      context.responseTrailer === responseTrailer,
      context.signal === signal,
      context.values === values,
    ],
    kinds: [requestHeader, responseHeader, responseTrailer, signal].map((each) => each.constructor.name),
  };
}

/** Waits until the call is over for its handler, and says what is left to see of it then. */
export async function afterwards({ who, message, context, look, atOnce, notes }: Sighting) {
  // Of a handler that looks at nothing, nobody knows when it is done.
  if (look === "nothing") return { who, message, atOnce };
  const { signal } = context;
  if (!signal.aborted) {
    await new Promise<void>((resolve, reject) => {
      const timer = setTimeout(
        () => reject(new Error("the signal of a call that is over never aborts")),
        15_000,
      );
      signal.addEventListener("abort", () => {
        clearTimeout(timer);
        resolve();
      });
    });
  }
  // The handler heard of it too, and makes its last notes.
  await new Promise((resolve) => setImmediate(resolve));
  // What was set of the answer is on the wire by now: Connect adds to the same objects what the protocol needs.
  const { responseHeader, responseTrailer, ...left } = contents(context);
  return { who, message, atOnce, notes, reason: reasonOf(signal.reason), afterwards: left };
}

export function reasonOf(reason: unknown) {
  if (reason instanceof ConnectError) return `${reason.code} ${reason.rawMessage}`;
  return reason instanceof Error ? `${reason.name} ${reason.message}` : String(reason);
}

/** Time passes between two reads: a deadline in units of five seconds, where it was a multiple of them. */
function nearly(ms: number | undefined): number | undefined {
  return ms === undefined ? undefined : Math.round((ms + 2000) / 5000);
}

function told(value: unknown): unknown {
  return JSON.parse(
    JSON.stringify(value ?? null, (_, each) => (typeof each === "bigint" ? String(each) : each)),
  );
}

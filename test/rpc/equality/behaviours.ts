/** What handlers do, by the name that a request's text asks for it by: "late: throw a string". */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { StringValueSchema } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, type HandlerContext } from "@connectrpc/connect";
import { ErrorInfoSchema } from "../../../src/gen/google/rpc/error_details_pb.js";
import { type Everything, EverythingSchema } from "./services.ts";
import { type Look, ownKey, reasonOf, type Sighting, see } from "./sighting.ts";

type Init = MessageInitShape<typeof EverythingSchema>;
type Behaviour = (message: Everything, context: HandlerContext, sighting: Sighting) => Promise<Init> | Init;

const every = Object.values(Code).filter((code) => typeof code === "number");
const odd = "ünïcode 🗝 %25 %zz \u0000\u0001\t\r\n\u007f\u0085 \ud800 \"'\\ ,;= end ";

/** What is thrown, at once or later. */
const thrown: Record<string, () => unknown> = {
  ...Object.fromEntries(
    every.map((code) => [Code[code], () => new ConnectError(`it is ${Code[code]}`, code)]),
  ),
  "an odd message": () => new ConnectError(odd, Code.Internal),
  "an empty message": () => new ConnectError("", Code.NotFound),
  "a long message": () => new ConnectError("é".repeat(3000), Code.NotFound),
  "code 0": () => new ConnectError("zero", 0 as Code),
  "code 17": () => new ConnectError("seventeen", 17 as Code),
  "code 99999": () => new ConnectError("many", 99999 as Code),
  "code -1": () => new ConnectError("minus", -1 as Code),
  "code 1.5": () => new ConnectError("half", 1.5 as Code),
  "code NaN": () => new ConnectError("none", Number.NaN as Code),
  "code text": () => new ConnectError("text", "not_found" as never),
  metadata: () =>
    new ConnectError("with metadata", Code.Aborted, [
      ["x-one", "1"],
      ["x-two", "a"],
      ["x-two", "b"],
      ["x-bin", "AQID"],
      ["x-latin", "é"],
    ]),
  "metadata of the protocol": () =>
    new ConnectError("with reserved metadata", Code.Aborted, {
      "content-type": "text/plain",
      "content-length": "3",
      "content-encoding": "zstd",
      "grpc-status": "0",
      "grpc-message": "fine",
      "grpc-encoding": "zstd",
      "grpc-status-details-bin": "AAAA",
      "accept-encoding": "zstd",
      "trailer-x": "t",
      "x-request-id": "theirs",
      "cache-control": "public",
      date: "then",
      connection: "close",
      "transfer-encoding": "chunked",
      allow: "nobody",
      vary: "all",
    }),
  details: () =>
    new ConnectError("with details", Code.FailedPrecondition, { "x-meta": "m" }, [
      { desc: ErrorInfoSchema, value: { reason: "ODD", domain: "équal", metadata: { key: odd } } },
      { desc: EverythingSchema, value: { text: odd, data: new Uint8Array([0, 255]) } },
    ]),
  "many details": () =>
    new ConnectError(
      "with many",
      Code.FailedPrecondition,
      undefined,
      Array.from({ length: 40 }, (_, i) => ({
        desc: ErrorInfoSchema,
        value: { reason: `R${i}`, domain: "d".repeat(50) },
      })),
    ),
  "a detail that cannot be encoded": () =>
    new ConnectError("with a bad detail", Code.FailedPrecondition, undefined, [
      { desc: EverythingSchema, value: { text: 5 as never } },
    ]),
  "an incoming detail": () => {
    const error = new ConnectError("passed on", Code.FailedPrecondition);
    error.details = [{ type: "test.equality.Everything", value: new Uint8Array([10, 1, 65]) }];
    return error;
  },
  "an error with a cause": () =>
    new ConnectError("told", Code.NotFound, undefined, undefined, new Error("hidden")),
  "a subclass": () => new (class Own extends ConnectError {})("own", Code.OutOfRange),
  "an Error": () => new Error("hidden"),
  "an Error with a code": () => Object.assign(new Error("hidden"), { code: "ECONNREFUSED" }),
  "an AbortError": () => new DOMException("hidden", "AbortError"),
  "a TimeoutError": () => new DOMException("hidden", "TimeoutError"),
  "a string": () => "hidden",
  undefined: () => undefined,
  null: () => null,
  "a number": () => 5,
  "an object": () => ({ code: 5, message: "hidden" }),
  "an unreadable object": () =>
    Object.defineProperty({}, "message", {
      get() {
        throw new Error("hidden");
      },
    }),
};

/** Resolves when the call's signal aborts. */
const aborted = (context: HandlerContext) =>
  new Promise<void>((resolve) => {
    if (context.signal.aborted) resolve();
    else context.signal.addEventListener("abort", () => resolve());
  });

const later = () => new Promise<void>((resolve) => setImmediate(resolve));

const behaviours: Record<string, Behaviour> = {
  echo: (message) => message,
  "echo later": async (message) => {
    await later();
    return message;
  },
  init: () => ({
    text: "plain",
    big: 2n ** 62n,
    data: new Uint8Array([1, 2]),
    choice: { case: "name", value: "n" },
  }),
  "a message": () =>
    create(EverythingSchema, { text: odd.replace("\ud800", ""), counts: { a: 1, b: -1 }, kind: 1 }),
  nothing: () => ({}),
  "an inner init": () => ({ choice: { case: "inner", value: { text: "in" } as never }, list: ["a", ""] }),
  "another type": () => create(StringValueSchema, { value: "x" }) as never,
  undefined: () => undefined as never,
  null: () => null as never,
  "a string": () => "text" as never,
  "a number": () => 5 as never,
  "an array": () => [] as never,
  "a bad field": () => ({ text: 5 }) as never,
  "a lone surrogate": () => ({ text: "\ud800" }),
  "a bad number": () => ({ maybe: 2 ** 40 }),
  NaN: () => ({ real: Number.NaN }),
  "an unknown enum": () => ({ kind: 99 }),
  "an any": () =>
    ({ any: { typeUrl: "type.googleapis.com/test.equality.Everything", value: new Uint8Array() } }) as never,
  "an unknown any": () =>
    ({ any: { typeUrl: "type.googleapis.com/no.Such", value: new Uint8Array() } }) as never,
  "a kilobyte": () => ({ text: "k".repeat(1100) }),
  "just not a kilobyte": () => ({ text: "k".repeat(1000) }),
  "the most": () => ({ text: "m".repeat(8192 - 3) }),
  "one too many": () => ({ text: "m".repeat(8192 - 2) }),
  "far too many": () => ({ text: "m".repeat(100_000) }),

  headers(message, { responseHeader, responseTrailer }) {
    responseHeader.set("x-one", "1");
    responseHeader.append("x-two", "a");
    responseHeader.append("x-two", "b");
    responseHeader.set("x-data-bin", "AQID");
    responseHeader.set("x-Padded-Bin", "AQ==");
    responseHeader.set("x-latin", "é");
    responseHeader.set("x-empty", "");
    responseTrailer.set("x-three", "3");
    responseTrailer.append("x-four", "c");
    responseTrailer.append("x-four", "d");
    responseTrailer.set("x-tail-bin", "BAUG");
    return message;
  },
  cookies(message, { responseHeader, responseTrailer }) {
    responseHeader.append("set-cookie", "a=1; path=/");
    responseHeader.append("set-cookie", "b=2, c");
    responseTrailer.append("set-cookie", "d=3");
    return message;
  },
  "headers of the protocol"(message, { responseHeader, responseTrailer }) {
    responseHeader.set("content-type", "text/plain");
    responseHeader.set("content-length", "7");
    responseHeader.set("cache-control", "public");
    responseHeader.set("x-request-id", "theirs");
    responseHeader.set("date", "then");
    responseHeader.set("trailer-x", "t");
    responseHeader.set("vary", "everything");
    responseHeader.set("server", "ours");
    responseTrailer.set("grpc-message", "fine");
    responseTrailer.set("x-after", "1");
    return message;
  },
  "a status of its own"(message, { responseTrailer }) {
    responseTrailer.set("grpc-status", "7");
    responseTrailer.set("grpc-message", "no%20way");
    return message;
  },
  "no status"(message, { responseTrailer }) {
    responseTrailer.delete("grpc-status");
    return message;
  },
  "no content type"(message, { responseHeader }) {
    responseHeader.delete("content-type");
    return message;
  },
  "an encoding of its own"(message, { responseHeader }) {
    responseHeader.set("content-encoding", "gzip");
    responseHeader.set("grpc-encoding", "gzip");
    return message;
  },
  "connection headers"(message, { responseHeader }) {
    responseHeader.set("connection", "close");
    return message;
  },
  "headers too late"(message, { responseHeader, responseTrailer }) {
    setTimeout(() => {
      responseHeader.set("x-late", "1");
      responseTrailer.set("x-late", "1");
    }, 20);
    return message;
  },
  "headers, then throw"(_, { responseHeader, responseTrailer }) {
    responseHeader.set("x-one", "1");
    responseHeader.set("x-both", "header");
    responseTrailer.set("x-three", "3");
    throw new ConnectError("after headers", Code.Aborted, { "x-both": "error", "x-error": "e" });
  },

  "read the signal": (message, { signal }) => ({ ...message, flag: signal.aborted }),
  "spread the context"(message, context, { notes }) {
    const copy = { ...context };
    notes.push(
      Object.keys(copy)
        .filter((key) => key in publicContext)
        .sort(),
    );
    notes.push(copy.timeoutMs() === undefined, copy.signal.aborted, [...copy.requestHeader].length);
    copy.responseHeader.set("x-copied", "1");
    return message;
  },
  "own values"(message, context, { notes }) {
    notes.push(context.values.get(ownKey));
    context.values.set(ownKey, "set");
    notes.push(context.values.get(ownKey));
    context.values.delete(ownKey);
    notes.push(context.values.get(ownKey));
    return message;
  },
  "change what came"(message, { requestHeader }) {
    requestHeader.set("x-changed", "1");
    requestHeader.delete("user-agent");
    message.text = "changed";
    return message;
  },

  "wait for the end": async (_, context, { notes }) => {
    await aborted(context);
    notes.push(reasonOf(context.signal.reason));
    throw context.signal.reason;
  },
  "wait for the end, then answer": async (message, context, { notes }) => {
    await aborted(context);
    notes.push(reasonOf(context.signal.reason));
    return message;
  },
  "wait for the end, then fail": async (_, context, { notes }) => {
    await aborted(context);
    notes.push(reasonOf(context.signal.reason));
    throw new ConnectError("too late", Code.DataLoss);
  },
  "never end": () => new Promise<never>(() => {}),
  "throw the signal's": (_, { signal }) => {
    signal.throwIfAborted();
    return { text: "not aborted" };
  },
};

for (const [name, make] of Object.entries(thrown)) {
  behaviours[`throw ${name}`] = () => {
    throw make();
  };
  behaviours[`reject with ${name}`] = async () => {
    await later();
    throw make();
  };
}

const publicContext = {
  method: 0,
  service: 0,
  signal: 0,
  timeoutMs: 0,
  requestMethod: 0,
  requestHeader: 0,
  responseHeader: 0,
  responseTrailer: 0,
  protocolName: 0,
  values: 0,
  url: 0,
};

/** Those that last until the call is ended from elsewhere. */
export const lasting: readonly string[] = [
  "wait for the end",
  "wait for the end, then answer",
  "wait for the end, then fail",
  "never end",
];
export const behaviourNames: readonly string[] = Object.keys(behaviours).filter(
  (name) => !lasting.includes(name),
);

/** The text that asks for a behaviour. */
export const ask = (behaviour: string, look: Look = "all") => `${look}: ${behaviour}`;

export type Handle = (message: Everything, context: HandlerContext) => Promise<Init> | Init;

/** A handler that does as it is asked, and tells what it saw. A text that asks for nothing is echoed. */
export function handle(sightings: Sighting[]): Handle {
  return (message, context) => {
    const [, look = "all", name = "echo"] = message.text.match(/^(all|late|nothing): (.*)$/s) ?? [];
    const sighting = see("handler", message, context, look as Look);
    sightings.push(sighting);
    return (behaviours[name] ?? behaviours.echo)?.(message, context, sighting) ?? {};
  };
}

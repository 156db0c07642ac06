/** The services of equality.proto as service authors mount theirs: bare, with interceptors, and with every option. */
import { create } from "@bufbuild/protobuf";
import {
  Code,
  ConnectError,
  type ConnectRouter,
  type HandlerContext,
  type Interceptor,
} from "@connectrpc/connect";
import type { Handle } from "./behaviours.ts";
import { Configured, Echo, type Everything, EverythingSchema, Intercepted, registry } from "./services.ts";
import { ownKey, type Sighting } from "./sighting.ts";

export function mountAll(router: ConnectRouter, call: Handle, sightings: Sighting[]): void {
  router.service(Echo, {
    call,
    get: call,
    public: call,
    known: call,
    staff: call,
    async *down(message, context) {
      yield call(message, context);
      yield { text: "again" };
    },
  });
  router.service(Intercepted, { call, get: call }, { interceptors: [outer(sightings), inner] });
  router.service(
    Configured,
    { call, get: call },
    {
      jsonOptions: {
        registry,
        alwaysEmitImplicit: true,
        useProtoFieldName: true,
        enumAsInteger: true,
        ignoreUnknownFields: false,
      },
      binaryOptions: { readUnknownFields: false, writeUnknownFields: false },
      readMaxBytes: 1000,
      writeMaxBytes: 2000,
      compressMinBytes: 10,
      maxTimeoutMs: 100_000,
      requireConnectProtocolHeader: true,
    },
  );
}

/** Tells what an interceptor sees, before and after. */
function outer(sightings: Sighting[]): Interceptor {
  return (next) => async (req) => {
    const notes: unknown[] = [
      [req.stream, req.requestMethod, req.url, req.service.typeName, req.method.name, req.signal.aborted],
      [...req.header],
      req.contextValues.get(ownKey),
      Object.keys(req).sort(),
    ];
    const seen = {
      who: "interceptor",
      message: undefined,
      atOnce: undefined,
      notes,
      look: "nothing",
      byConnect: true,
    };
    sightings.push({ ...seen, context: undefined as unknown as HandlerContext } as Sighting);
    try {
      const res = await next(req);
      notes.push(Object.keys(res).sort(), [...res.header], [...res.trailer], res.stream);
      res.header.set("x-outer", "1");
      res.trailer.set("x-outer-trailer", "1");
      return res;
    } catch (error) {
      notes.push(error instanceof ConnectError ? `${error.code} ${error.rawMessage}` : "no ConnectError");
      throw error;
    }
  };
}

/** What the first item of a request's list asks of the interceptor. */
const inner: Interceptor = (next) => async (req) => {
  if (req.stream) return next(req);
  const message = req.message as Everything;
  switch (message.list[0]) {
    case "replace the message":
      return next({ ...req, message: create(EverythingSchema, { ...message, name: "replaced" } as never) });
    case "change the message":
      message.list.push("changed");
      return next(req);
    case "change the headers":
      req.header.set("x-inner", "1");
      return next(req);
    case "replace the headers":
      return next({ ...req, header: new Headers({ "x-inner": "only" }) } as never);
    case "replace the signal":
      return next({ ...req, signal: AbortSignal.any([req.signal]) });
    case "abort the signal":
      return next({ ...req, signal: AbortSignal.abort(new ConnectError("by interceptor", Code.Aborted)) });
    case "set a value":
      req.contextValues.set(ownKey, "by interceptor");
      return next(req);
    case "answer itself":
      return {
        stream: false,
        service: req.service,
        method: req.method,
        header: new Headers({ "x-inner": "1", "content-type": "text/odd" }),
        trailer: new Headers({ "x-inner-trailer": "1" }),
        message: create(EverythingSchema, { text: "intercepted" }),
      } as never;
    case "replace the answer":
      return { ...(await next(req)), message: create(EverythingSchema, { text: "replaced" }) } as never;
    case "replace the answer's headers": {
      const res = await next(req);
      return {
        ...res,
        header: new Headers({ "x-inner": "1" }),
        trailer: new Headers({ "x-inner-trailer": "1" }),
      };
    }
    case "change the answer's headers": {
      const res = await next(req);
      res.header.append("x-inner", "a");
      res.header.append("x-inner", "b");
      res.trailer.set("x-inner-trailer", "1");
      return res;
    }
    case "call twice":
      await next(req);
      return next(req);
    case "throw before":
      throw new ConnectError("before", Code.Aborted, { "x-inner": "1" });
    case "throw after":
      await next(req);
      throw new ConnectError("after", Code.Aborted, { "x-inner": "1" });
    case "throw an Error":
      throw new Error("hidden");
    case "hide the error":
      return next(req).catch(() => ({
        stream: false,
        service: req.service,
        method: req.method,
        header: new Headers(),
        trailer: new Headers(),
        message: create(EverythingSchema, { text: "no error" }),
      })) as never;
    case "change the error":
      return next(req).catch((error: unknown) => {
        throw new ConnectError(`changed ${error instanceof ConnectError}`, Code.Unavailable);
      });
    default:
      return next(req);
  }
};

export const interceptions: readonly string[] = [
  "nothing",
  "replace the message",
  "change the message",
  "change the headers",
  "replace the headers",
  "replace the signal",
  "abort the signal",
  "set a value",
  "answer itself",
  "replace the answer",
  "replace the answer's headers",
  "change the answer's headers",
  "call twice",
  "throw before",
  "throw after",
  "throw an Error",
  "hide the error",
  "change the error",
];

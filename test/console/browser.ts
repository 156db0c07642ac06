/** A browser as the server sees it: it keeps cookies, and says where its requests come from. */
import assert from "node:assert/strict";
import { type IncomingHttpHeaders, type IncomingMessage, request } from "node:http";
import { connect } from "node:http2";
import { request as requestTls } from "node:https";
import { text } from "node:stream/consumers";
import { fromBinary } from "@bufbuild/protobuf";
import { ErrorInfoSchema } from "../../src/gen/google/rpc/error_details_pb.js";
import { noteSecret } from "../harness/secrets.ts";

export interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
  /** The body, where it is JSON. */
  // biome-ignore lint/suspicious/noExplicitAny: tests look into it as they need.
  readonly json: any;
  /** Of an error: its code and the reason of its ErrorInfo, "" for none. */
  readonly refusal: string;
}

export interface Sending {
  method?: string;
  headers?: Record<string, string>;
  body?: string;
  /** Over HTTP/2 without TLS. */
  http2?: boolean;
}

/** Sends a request just as it is given: no header is added but the host's. */
export async function send(url: string, sending: Sending = {}): Promise<Answer> {
  const { status, headers, body } = await (sending.http2 ? sendHttp2 : sendHttp1)(url, sending);
  const isJson = headers["content-type"]?.startsWith("application/json") ?? false;
  const json = isJson ? JSON.parse(body) : undefined;
  return { status, headers, body, json, refusal: refusalOf(json) };
}

async function sendHttp1(url: string, { method = "GET", headers = {}, body }: Sending) {
  const ask = url.startsWith("https:") ? requestTls : request;
  const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
  const req = ask(url, { method, headers, rejectUnauthorized: false, agent: false }, resolve);
  req.on("error", reject);
  req.end(body);
  const res = await promise;
  return { status: res.statusCode ?? 0, headers: res.headers, body: await text(res) };
}

async function sendHttp2(url: string, { method = "GET", headers = {}, body }: Sending) {
  const session = connect(url);
  try {
    const { host, ...rest } = headers;
    const stream = session.request({
      ":method": method,
      ":path": new URL(url).pathname,
      ...(host !== undefined && { ":authority": host }),
      ...rest,
    });
    const answered = new Promise<IncomingHttpHeaders & { ":status"?: number }>((resolve, reject) => {
      stream.on("response", resolve).on("error", reject);
    });
    stream.end(body);
    const answer = await answered;
    return { status: answer[":status"] ?? 0, headers: answer, body: await text(stream) };
  } finally {
    session.close();
  }
}

// biome-ignore lint/suspicious/noExplicitAny: whatever JSON came.
function refusalOf(json: any): string {
  if (typeof json?.code !== "string") return "";
  const detail = json.details?.find((each: { type: string }) => each.type === "google.rpc.ErrorInfo");
  const info = detail && fromBinary(ErrorInfoSchema, Buffer.from(detail.value, "base64"));
  return `${json.code} ${info?.reason ?? ""}`.trim();
}

/** Where a page's request comes from, as today's browsers tell it. */
export const samePage = (url: string): Record<string, string> => ({
  origin: url,
  "sec-fetch-site": "same-origin",
  "sec-fetch-mode": "cors",
  "sec-fetch-dest": "empty",
});

export interface Browser {
  /** The `cookie` header that it would send; undefined: it has none. */
  readonly cookie: string | undefined;
  /** Calls a method of `latchkey.v1` as the console's page does, in Connect's JSON. */
  call(method: string, message?: object): Promise<Answer>;
  /** The same with headers of one's own, in place of those of the page. */
  callWith(headers: Record<string, string>, method: string, message?: object): Promise<Answer>;
  signIn(token: string): Promise<Answer>;
}

/** A browser that has the console of a server open. */
export function openBrowser(url: string): Browser {
  const cookies = new Map<string, string>();

  async function callWith(headers: Record<string, string>, method: string, message: object = {}) {
    const answer = await send(`${url}/latchkey.v1.${method}`, {
      method: "POST",
      headers: {
        "content-type": "application/json",
        ...(browser.cookie !== undefined && { cookie: browser.cookie }),
        ...headers,
      },
      body: JSON.stringify(message),
    });
    for (const set of answer.headers["set-cookie"] ?? []) take(set);
    return answer;
  }

  function take(set: string): void {
    const [pair = "", ...attributes] = set.split("; ");
    const [name = "", value = ""] = pair.split("=", 2);
    if (attributes.includes("Max-Age=0")) cookies.delete(name);
    else cookies.set(name, noteSecret(value));
  }

  const browser: Browser = {
    get cookie() {
      return cookies.size === 0
        ? undefined
        : [...cookies].map(([name, value]) => `${name}=${value}`).join("; ");
    },
    call: (method, message) => callWith(samePage(url), method, message),
    callWith,
    signIn: (token) => browser.call("SessionService/CreateSession", { token }),
  };
  return browser;
}

/** A browser that is signed in. */
export async function signedIn(url: string, token: string): Promise<Browser> {
  const browser = openBrowser(url);
  const answer = await browser.signIn(token);
  assert.equal(answer.status, 200, answer.body);
  return browser;
}

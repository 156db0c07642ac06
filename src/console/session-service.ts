/** `latchkey.v1.SessionService`. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, type HandlerContext, type ServiceImpl } from "@connectrpc/connect";
import { callKey } from "../auth/call.ts";
import type { Credential } from "../auth/credential.ts";
import { denialError } from "../auth/denial.ts";
import { methodName } from "../auth/method-name.ts";
import { type Principal, requireUser } from "../auth/principal.ts";
import { type ReadHeader, readHeaderOf } from "../auth/read-header.ts";
import { isCrossSite, noSessionCookies, sessionCookie } from "../auth/session-cookie.ts";
import type { SessionSecrets } from "../auth/session-secret.ts";
import type { Decide, Verdict } from "../auth/verdict.ts";
import {
  type CurrentSessionSchema,
  ListSessionsRequestSchema,
  type SessionSchema,
  type SessionService,
} from "../gen/latchkey/v1/session_service_pb.js";
import { toMessage as toKeyMessage } from "../keys/message.ts";
import { telling } from "../keys/refused.ts";
import type { ApiKeyStore } from "../keys/store.ts";
import { principalKind } from "../keys/verify.ts";
import { actorOf } from "../rpc/actor.ts";
import { readPage } from "../rpc/page.ts";
import { checkUuid, invalid } from "../rpc/validate.ts";
import { visibleUser } from "../rpc/visible-user.ts";
import type { SessionRecord, SessionStore } from "./session-store.ts";

const pageSizes = { fallback: 50, most: 500 };
/** Of the longest token that there can be, or the longest secret key. */
const maxTokenLength = 512;

export interface SessionServiceOptions {
  sessions: SessionStore;
  keys: Pick<ApiKeyStore, "get">;
  secrets: SessionSecrets;
  decide: Decide;
  readCredential: (header: ReadHeader) => Credential;
  /** Lower case. */
  apiKeyHeader: string;
  /** Why nobody can sign in; undefined: they can. */
  closed: string | undefined;
}

/** Creates the service. A token is verified as any other entrance would, and nowhere else. */
export function createSessionService(options: SessionServiceOptions): ServiceImpl<typeof SessionService> {
  const { sessions, keys, secrets, apiKeyHeader } = options;

  /** Throws what a call of this method with the token would be refused with. */
  async function verify(token: string, context: HandlerContext): Promise<Principal> {
    const call = context.values.get(callKey);
    const verdict = await options.decide({
      method: methodName(context.method),
      access: "authenticated",
      credential: options.readCredential((name) => (name === apiKeyHeader ? token : undefined)),
      peerAddress: call?.peerAddress,
    });
    // The log says whose token it was, and why it was refused.
    if (call !== undefined) call.verdict = verdict;
    return principalOf(verdict, apiKeyHeader);
  }

  /** The session that the browser has, whatever else it sent, and whether or not it is still good. */
  function inCookie(header: ReadHeader): Credential {
    const isCookie = (name: string) => name !== apiKeyHeader && name !== "authorization";
    return options.readCredential((name) => (isCookie(name) ? header(name) : undefined));
  }

  async function describe(principal: Principal, session: SessionRecord | undefined) {
    const { userId, username, isStaff, apiKeyId, canVerify, credentialKind } = principal;
    const key = apiKeyId === undefined ? undefined : await keys.get(apiKeyId);
    const ends = [session?.endsAt, key?.expiresAt].filter((end) => end != null);
    const [first] = ends.sort((a, b) => a.getTime() - b.getTime());
    return {
      userId,
      username,
      isStaff,
      canVerify,
      credentialKind: principalKind(credentialKind),
      ...(key && { apiKey: toKeyMessage(key, new Date()) }),
      ...(session && { session: toMessage(session, session.id) }),
      ...(first && { endsAt: timestampFromDate(first) }),
    } satisfies MessageInitShape<typeof CurrentSessionSchema>;
  }

  return {
    async createSession({ token }, context) {
      const header = headerOf(context);
      if (isCrossSite(header)) throw crossSite(apiKeyHeader);
      if (options.closed !== undefined) throw new ConnectError(options.closed, Code.FailedPrecondition);
      if (token === "" || token.length > maxTokenLength) {
        throw invalid(`token must be an API key's token, of at most ${maxTokenLength} characters`);
      }
      const principal = await verify(token, context);
      const { credentialKind, userId, apiKeyId } = principal;
      const before = inCookie(header);
      const secret = secrets.create(credentialKind === "secret_key" ? "secret_key" : "api_key");
      const session = await telling(
        sessions.create(
          {
            hash: secret.hash,
            userId,
            apiKeyId,
            userAgent: context.values.get(callKey)?.userAgent ?? "",
            replaced: before.kind === "session" ? before.hash : undefined,
          },
          { ...actorOf(context), userId, apiKeyId },
        ),
      );
      const maxAgeS = Math.floor((session.endsAt.getTime() - session.createdAt.getTime()) / 1000);
      const isSecureUrl = context.url.startsWith("https:");
      context.responseHeader.append(
        "set-cookie",
        sessionCookie(secret.value, { header, isSecureUrl, maxAgeS }),
      );
      const signedIn: Principal = { ...principal, credentialKind: "session", sessionId: session.id };
      return { current: await describe(signedIn, session) };
    },

    async getSession(_, context) {
      const principal = requireUser(context);
      const { sessionId } = principal;
      const session = sessionId === undefined ? undefined : await sessions.get(sessionId);
      return { current: await describe(principal, session) };
    },

    async listSessions(request, context) {
      const principal = requireUser(context);
      const page = readPage(ListSessionsRequestSchema, request, pageSizes);
      const userId = visibleUser(request.userId, principal);
      const before = page.cursor && checkUuid("page_token", page.cursor[0] ?? "");
      const rows = await sessions.list(userId, page.size + 1, before);
      const shown = rows.slice(0, page.size);
      const last = shown.at(-1);
      return {
        sessions: shown.map((session) => toMessage(session, principal.sessionId)),
        nextPageToken: rows.length > page.size && last !== undefined ? page.tokenAfter(last.id) : "",
      };
    },

    async deleteSession(_, context) {
      const header = headerOf(context);
      const credential = inCookie(header);
      if (isCrossSite(header) || credential.kind === "cross_site") throw crossSite(apiKeyHeader);
      const { peerAddress, requestId } = actorOf(context);
      if (credential.kind === "session" && credential.hash !== undefined) {
        await sessions.signOut(credential.hash, { peerAddress, requestId });
      }
      for (const cookie of noSessionCookies()) context.responseHeader.append("set-cookie", cookie);
      return {};
    },

    async revokeSession(request, context) {
      const principal = requireUser(context);
      const id = checkUuid("id", request.id);
      const session = await sessions.get(id);
      const isVisible = session !== undefined && (principal.isStaff || session.userId === principal.userId);
      if (!isVisible || !(await sessions.revoke(id, actorOf(context)))) {
        throw new ConnectError(`session ${id} not found`, Code.NotFound);
      }
      return {};
    },
  };
}

function headerOf(context: HandlerContext): ReadHeader {
  return readHeaderOf(context.requestHeader, context.url);
}

/** Another site's page must neither sign its visitor in as somebody else nor out. */
function crossSite(apiKeyHeader: string): ConnectError {
  const verdict = { principal: undefined, subject: undefined, credentialKind: "session" } as const;
  return denialError({ ...verdict, denial: "CROSS_SITE" }, apiKeyHeader);
}

function principalOf(verdict: Verdict, apiKeyHeader: string): Principal {
  const { denial, principal } = verdict;
  const refused = denial ?? (principal === undefined ? "MISSING" : undefined);
  if (refused !== undefined) throw denialError({ ...verdict, denial: refused }, apiKeyHeader);
  return principal as Principal;
}

function toMessage(
  session: SessionRecord,
  currentId: string | undefined,
): MessageInitShape<typeof SessionSchema> {
  const { id, userId, username, userAgent } = session;
  return {
    id,
    userId,
    username,
    apiKeyId: session.apiKeyId ?? "",
    createdAt: timestampFromDate(session.createdAt),
    seenAt: timestampFromDate(session.seenAt),
    expiresAt: timestampFromDate(session.expiresAt),
    endsAt: timestampFromDate(session.endsAt),
    peerAddress: session.peerAddress ?? "",
    userAgent,
    current: id === currentId,
  };
}

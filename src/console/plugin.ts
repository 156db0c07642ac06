/** The console's files on a Fastify instance: what a browser gets, and what it may do with it. */
import { randomBytes } from "node:crypto";
import { readdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import fastifyStatic from "@fastify/static";
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";

// src/console and dist/console lie equally deep in the package.
const inPackage = (path: string) => fileURLToPath(new URL(`../../${path}`, import.meta.url));
const builtFiles = inPackage("dist/console/app");
/** What the files are built from. A checkout has it, the installed package has not. */
const sourceFolders = [inPackage("src/console/app"), inPackage("src/gen")];
/** Where the build has left room for the nonce of a response. */
const noncePlace = "__CSP_NONCE__";
const yearS = 31_536_000;

/**
 * Serves the console at /console, and leads there from / where nothing else is. Every
 * path that names no file gets the page, which finds its way by itself. `directory`
 * holds the built files; they are looked for when they are asked for. Where they are
 * older than a file of `sources`, the log says so.
 */
export async function serveConsole(
  app: FastifyInstance,
  directory: string = builtFiles,
  sources: readonly string[] = sourceFolders,
): Promise<void> {
  if (await isOutdated(directory, sources)) {
    app.log.warn("the console was built before its sources were last changed: run npm run build:console");
  }
  app.addHook("onRequest", leadToConsole);
  await app.register(async (scope) => {
    scope.addHook("onRequest", async (_req, reply) => {
      reply.headers(securityHeaders);
    });
    await scope.register(fastifyStatic, {
      serve: false,
      index: false,
      dotfiles: "ignore",
      preCompressed: true,
      cacheControl: false,
    });
    const sendPage = (_req: FastifyRequest, reply: FastifyReply) => sendIndex(directory, reply);
    scope.get("/console", sendPage);
    scope.get<{ Params: { "*": string } }>("/console/*", (req, reply) => {
      const path = req.params["*"];
      if (!isFile(path) || path === "index.html") return sendPage(req, reply);
      // The names of assets hold a hash of what is in them.
      const isHashed = path.startsWith("assets/");
      reply.header("cache-control", isHashed ? `public, max-age=${yearS}, immutable` : "no-cache");
      return reply.sendFile(path, directory);
    });
  });
}

/** Whether there is a build, and a source that is newer. */
async function isOutdated(directory: string, sources: readonly string[]): Promise<boolean> {
  try {
    const { mtimeMs: builtMs } = await stat(join(directory, "index.html"));
    for (const folder of sources) {
      for (const file of await readdir(folder, { recursive: true })) {
        const found = await stat(join(folder, file));
        if (found.isFile() && found.mtimeMs > builtMs) return true;
      }
    }
  } catch {
    // Not built, or no sources: nothing to compare. An answer tells what cannot be read.
  }
  return false;
}

/** Of all that is served here. What the page itself may do says {@link contentSecurityPolicy}. */
const securityHeaders = {
  "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
  "x-content-type-options": "nosniff",
  // For browsers that do not know frame-ancestors.
  "x-frame-options": "DENY",
  // Not no-referrer, with which some browsers send "Origin: null" to ourselves.
  "referrer-policy": "same-origin",
  "cross-origin-opener-policy": "same-origin",
  "cross-origin-resource-policy": "same-origin",
  "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
};

/**
 * Only our own files, and of styles those that the component kit makes with the nonce.
 * Nothing else is loaded, run, embedded or sent anywhere (CSP Level 3).
 */
function contentSecurityPolicy(nonce: string): string {
  return [
    "default-src 'none'",
    "script-src 'self'",
    `style-src 'self' 'nonce-${nonce}'`,
    "img-src 'self' data:",
    "font-src 'self'",
    "connect-src 'self'",
    "manifest-src 'self'",
    "worker-src 'self'",
    "form-action 'none'",
    "base-uri 'none'",
    "frame-ancestors 'none'",
  ].join("; ");
}

async function sendIndex(directory: string, reply: FastifyReply): Promise<FastifyReply> {
  let page: string;
  try {
    page = await readFile(join(directory, "index.html"), "utf8");
  } catch (error) {
    const isMissing = error instanceof Error && "code" in error && error.code === "ENOENT";
    // Anyone can ask, and what is missing is told in the answer: no line each for the log.
    if (!isMissing) reply.log.error({ err: error }, "the console's files cannot be read");
    return reply
      .code(503)
      .type("text/plain; charset=utf-8")
      .header("cache-control", "no-store")
      .send(notBuilt);
  }
  const nonce = randomBytes(16).toString("base64");
  // No part of it may come from a cache: the nonce would be another one than the header's.
  return reply
    .headers({ "content-security-policy": contentSecurityPolicy(nonce), "cache-control": "no-store" })
    .type("text/html; charset=utf-8")
    .send(page.replaceAll(noncePlace, nonce));
}

const notBuilt = `The console has not been built. Run

  npm run build:console

and load this page again. LATCHKEY_CONSOLE=false switches the console off.
`;

/** Whether a path names a file, rather than a place within the console. */
function isFile(path: string): boolean {
  return /\.[a-z0-9]+$/i.test(path);
}

/** A hook that answers who opens the server in a browser, and meets no RPC. What anyone has mounted at / goes before. */
export function leadToConsole(req: FastifyRequest, reply: FastifyReply, done: () => void): void {
  const isRoot = req.url === "/" && (req.method === "GET" || req.method === "HEAD");
  if (req.is404 && isRoot) reply.redirect("/console/");
  else done();
}

/** h2spec, which tells what a server makes of HTTP/2 frames, allowed and forbidden (RFC 7540 and 7541). */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { readFile, writeFile } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import { before, test } from "node:test";
import { setTimeout as sleep, setImmediate as turn } from "node:timers/promises";
import { toBinary } from "@bufbuild/protobuf";
import { BytesValueSchema } from "@bufbuild/protobuf/wkt";
import { pem } from "../harness/pem.ts";
import { newDirectory, type TestServer } from "../harness/server.ts";
import { type Bytes, startFixture } from "../rpc/protocols.ts";

/** Fewer, and something is amiss with how it is run. */
const cases = 145;
const timeout = 110_000;

/** Where `.ci/run` puts the program. */
function findProgram(): string {
  const cache = process.env.XDG_CACHE_HOME || join(homedir(), ".cache");
  const program = process.env.TEST_H2SPEC || join(cache, "latchkey", "h2spec", "h2spec");
  if (existsSync(program)) return program;
  throw new Error(
    `there is no ${program}: go build -C test/clients/h2spec -o FOLDER github.com/summerwind/h2spec/cmd/h2spec, and ` +
      "set TEST_H2SPEC to the program; .ci/run does that",
  );
}

let program: string;
before(() => {
  program = findProgram();
});

/** Cases that fail, and why they may: by their section and title. */
type Known = Readonly<Record<string, string>>;

/** Node and its nghttp2, which serve without the lean path. */
const nodeFails: Known = {
  "http2/5.1: closed: Sends a DATA frame after sending RST_STREAM frame":
    "what comes after a reset is ignored: it may have been on its way",
  "http2/5.1: closed: Sends a HEADERS frame after sending RST_STREAM frame": "likewise",
  "http2/5.1: closed: Sends a DATA frame":
    "nghttp2 keeps nothing of a stream that has ended, and ignores what still comes for it",
  "http2/5.1: closed: Sends a HEADERS frame": "likewise",
  "http2/5.1.1: Sends stream identifier that is numerically smaller than previous":
    "nghttp2 takes it for a stream that has ended",
  "http2/5.3.1: Sends PRIORITY frame that depend on itself":
    "no dependency is kept any more (RFC 9113, 5.3.2)",
  "http2/6.3: Sends a PRIORITY frame with 0x0 stream identifier": "nghttp2 leaves PRIORITY unread",
  "http2/6.7: Sends a PING frame with ACK":
    "Node ends a connection with an answer to a PING that it did not send",
  "http2/6.9.1: Sends multiple WINDOW_UPDATE frames increasing the flow control window to above 2^31-1 on a stream":
    "nghttp2 makes the error one of the connection, as it may (RFC 9113, 5.4.2)",
};

/** The listener's, whoever serves HTTP/2. */
const listenerFails: Known = {
  "http2/3.5: Sends invalid connection preface":
    "a port that serves HTTP/1.1 too answers it 400 before it closes, which is no frame",
};

interface Run {
  readonly name: string;
  readonly leanUnary: boolean;
  readonly tls: boolean;
  readonly known: Known;
}

const answeredBefore =
  "a POST without a content type is answered 415 at once: what is wrong with the rest may come after its stream has ended";
/** Those that hang on which comes first. */
const mayFail: Known = {
  "http2/8.1: Sends a second HEADERS frame without the END_STREAM flag": answeredBefore,
  "http2/8.1.2.1: Sends a HEADERS frame that contains a pseudo-header field as trailers": answeredBefore,
  "http2/8.1.2.6: Sends a HEADERS frame with the &#34;content-length&#34; header field which does not equal the DATA frame payload length":
    answeredBefore,
  "http2/8.1.2.6: Sends a HEADERS frame with the &#34;content-length&#34; header field which does not equal the sum of the multiple DATA frames payload length":
    answeredBefore,
};

/** Likewise, where Node and its nghttp2 serve, which ignore what comes for a stream that has ended. */
const nodeMayFail: Known = {
  "http2/6.1: Sends a DATA frame on the stream that is not in &#34;open&#34; or &#34;half-closed (local)&#34; state":
    answeredBefore,
  "http2/6.1: Sends a DATA frame with invalid pad length": answeredBefore,
};

const runs: readonly Run[] = [
  { name: "plain text", leanUnary: true, tls: false, known: listenerFails },
  { name: "TLS", leanUnary: true, tls: true, known: {} },
  {
    ...{ name: "plain text, without the lean path", leanUnary: false, tls: false },
    known: { ...nodeFails, ...listenerFails },
  },
  { name: "TLS, without the lean path", leanUnary: false, tls: true, known: nodeFails },
];

/** A unary call over Connect by GET, which is all that h2spec can send. */
const message = toBinary(BytesValueSchema, {
  $typeName: "google.protobuf.BytesValue",
  value: Buffer.from("hello h2spec"),
});
const path = `/test.Fixture/Unary?connect=v1&encoding=proto&base64=1&message=${Buffer.from(message).toString("base64url")}`;

async function start({ leanUnary, tls }: Run): Promise<TestServer> {
  const directory = newDirectory();
  const [tlsCert, tlsKey] = [join(directory, "cert.pem"), join(directory, "key.pem")];
  await writeFile(tlsCert, pem.cert);
  await writeFile(tlsKey, pem.key);
  // What a case sends for a stream that is still open has to be read before its answer, also after a busy while.
  const unary = async (request: Bytes) => {
    await sleep(200);
    for (let i = 0; i < 5; i++) await turn();
    return request;
  };
  return startFixture({ unary }, { leanUnary, ...(tls && { tlsCert, tlsKey }) });
}

/** Runs all of it; resolves with the failed cases, and with what was expected and seen of each. */
async function runSuite(server: TestServer, { tls }: Run): Promise<Map<string, string>> {
  const report = join(newDirectory(), "report.xml");
  const args = ["--port", String(server.port), "--path", path, "--junit-report", report];
  if (tls) args.push("--tls", "--insecure");
  const output = await new Promise<string>((resolve) => {
    execFile(program, args, { maxBuffer: 2 ** 26 }, (_failed, stdout, stderr) => resolve(stdout + stderr));
  });
  // Frames that it has seen are in it byte by byte: it is no text of UTF-8.
  const xml = await readFile(report, "latin1").catch(() => "");
  const found = [...xml.matchAll(/<testcase package="([^"]*)" classname="([^"]*)"[^>]*>(.*?)<\/testcase>/gs)];
  assert.equal(found.length, cases, output.slice(-5000));
  return new Map(
    found.flatMap(([, section, title, rest]) => (rest ? [[`${section}: ${title}`, rest.trim()]] : [])),
  );
}

test("h2spec passes, but for what is known", { timeout, concurrency: runs.length }, async (t) => {
  await Promise.all(
    runs.map((run) =>
      t.test(`over ${run.name}`, { timeout }, async (t) => {
        const server = await start(run);
        t.after(() => server.close());
        const failed = await runSuite(server, run);
        const excused = { ...run.known, ...mayFail, ...(!run.leanUnary && nodeMayFail) };
        const unknown = [...failed].filter(([name]) => !(name in excused));
        assert.deepEqual(unknown, [], "cases that fail and are not known to");
        const mended = Object.keys(run.known).filter((name) => !failed.has(name));
        assert.deepEqual(mended, [], "cases that are known to fail, and pass: take them off the list");
        t.diagnostic(`${cases} cases, of which ${failed.size} are known to fail`);
      }),
    ),
  );
});

/**
 * The program that the conformance suite starts for a server of each kind. There is one server for all of
 * them, on one port, and this tells where; starting one for each would take most of the time.
 */
import assert from "node:assert/strict";
import { buffer } from "node:stream/consumers";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { pem } from "../../harness/pem.ts";
import { readContract } from "./schema.ts";

const { CONFORMANCE_CONTRACT = "", CONFORMANCE_PORT, CONFORMANCE_LIMIT } = process.env;
const { serverCompatRequest, serverCompatResponse } = readContract(CONFORMANCE_CONTRACT);
// Each message has its length before it, in four bytes.
const asked = fromBinary(serverCompatRequest, (await buffer(process.stdin)).subarray(4));
assert.equal(asked.messageReceiveLimit, Number(CONFORMANCE_LIMIT));

const answer = toBinary(
  serverCompatResponse,
  create(serverCompatResponse, {
    host: "127.0.0.1",
    port: Number(CONFORMANCE_PORT),
    ...(asked.useTls && { pemCert: Buffer.from(pem.cert) }),
  }),
);
const length = Buffer.alloc(4);
length.writeUInt32BE(answer.length);
process.stdout.write(Buffer.concat([length, answer]));
// A server that ends of itself is one that failed: the suite sends SIGTERM.
setInterval(() => {}, 60_000);

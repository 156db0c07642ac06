/** The load of `workers.ts`: unary calls over gRPC, as cheap for the client as can be had. */
import { type ClientHttp2Session, connect } from "node:http2";
import { create, toBinary } from "@bufbuild/protobuf";
import { GetUserRequestSchema } from "../../src/gen/api/users/user_service_pb.js";

const callsAtOnce = 16;
const token = process.env.BENCH_TOKEN ?? "";
const message = toBinary(GetUserRequestSchema, create(GetUserRequestSchema, { userId: 1n }));
// gRPC: a byte that says "not compressed", the length, the message.
const frame = Buffer.concat([Buffer.from([0, 0, 0, 0, message.length]), message]);

process.once("message", async (job: { url: string; seconds: number; connections: number }) => {
  const until = performance.now() + job.seconds * 1000;
  const counts = { calls: 0, failed: 0 };
  const sessions = Array.from({ length: job.connections }, () => connect(job.url));
  const loops = sessions.flatMap((session) =>
    Array.from({ length: callsAtOnce }, async () => {
      while (performance.now() < until) counts[(await call(session)) ? "calls" : "failed"]++;
    }),
  );
  await Promise.all(loops);
  for (const session of sessions) session.destroy();
  process.send?.(counts, () => process.disconnect?.());
});

function call(session: ClientHttp2Session): Promise<boolean> {
  return new Promise((resolve) => {
    const stream = session.request({
      ":method": "POST",
      ":path": "/api.users.UserService/GetUser",
      "content-type": "application/grpc",
      te: "trailers",
      "x-api-key": token,
    });
    let ok = false;
    stream.on("trailers", (trailers) => {
      ok = trailers["grpc-status"] === "0";
    });
    stream.on("error", () => {});
    stream.on("close", () => resolve(ok));
    stream.resume();
    stream.end(frame);
  });
}

/** Responses, held back until the RPC is recorded where that is asked for. */
import { Code, ConnectError } from "@connectrpc/connect";
import type { UniversalServerResponse } from "@connectrpc/connect/protocol";
import { endStreamFromJson } from "@connectrpc/connect/protocol-connect";
import { dropConnectionFields } from "./connection-fields.ts";
import type { RunningRpc } from "./running-rpc.ts";

/** Makes the response for an RPC that could not be recorded though it had to be. */
type Refuse = () => Promise<UniversalServerResponse>;

/** The flags of the frames that end a stream in Connect (0x02) and gRPC-Web (0x80). */
const endOfStreamFlags = 0x82;
/** Uncompressed, as it is unless an error carries more than a kilobyte. */
const connectEndFlag = 0x02;
const frameHeadBytes = 5;
/** What Connect answers a unary RPC that was cancelled with (Connect protocol, "Error Codes"). */
const clientClosedRequest = 499;

/** Waits for the whole answer of a unary RPC, so that it is recorded with its size and code before any of it is sent. */
export async function answerUnary(
  rpc: RunningRpc,
  response: UniversalServerResponse,
  refuse: Refuse,
): Promise<UniversalServerResponse> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of response.body ?? []) {
    rpc.responseBytes += chunk.byteLength;
    chunks.push(chunk);
  }
  // Nobody is there to take it.
  if (rpc.clientGone) rpc.responseBytes = 0;
  rpc.readTrailers();
  // A client that resets its stream without a reason leaves none in the signal.
  if (response.status === clientClosedRequest) {
    rpc.wireError ??= new ConnectError("the client went away", Code.Canceled);
  }
  dropConnectionFields(response.header);
  dropConnectionFields(response.trailer);
  return (await isRecorded(rpc)) ? { ...response, body: sequence(chunks) } : refuse();
}

/** Passes a stream on as it comes; only what ends it waits for the record. */
export function answerStream(
  rpc: RunningRpc,
  response: UniversalServerResponse,
  refuse: Refuse,
): UniversalServerResponse {
  async function* body(): AsyncGenerator<Uint8Array, void, undefined> {
    dropConnectionFields(response.header);
    for await (const chunk of response.body ?? []) {
      rpc.responseBytes += chunk.byteLength;
      const flags = chunk[0] ?? 0;
      if ((flags & endOfStreamFlags) !== 0) {
        if (flags === connectEndFlag) rpc.wireError = readEndOfStream(chunk);
        else rpc.readTrailers();
        if (!(await isRecorded(rpc))) {
          yield* (await refuse()).body ?? [];
          return;
        }
      }
      yield chunk;
    }
    rpc.readTrailers();
    dropConnectionFields(response.trailer);
    // gRPC ends with trailers, which are sent once this has returned.
    if (!(await isRecorded(rpc))) {
      const refused = await refuse();
      refused.trailer?.forEach((value, name) => {
        response.trailer?.set(name, value);
      });
    }
  }
  return { ...response, body: body() };
}

/** The error in the message that ends a Connect stream. */
function readEndOfStream(frame: Uint8Array): ConnectError | undefined {
  const { error } = endStreamFromJson(frame.subarray(frameHeadBytes));
  return error;
}

async function isRecorded(rpc: RunningRpc): Promise<boolean> {
  try {
    await rpc.record();
    return true;
  } catch {
    // The recorder has told the log; the caller is told `unavailable`.
    return false;
  }
}

async function* sequence(chunks: readonly Uint8Array[]): AsyncGenerator<Uint8Array, void, undefined> {
  yield* chunks;
}

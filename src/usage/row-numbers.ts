/** What of calls is numbers, and their ids: in arrays that the garbage collector need not look into. */
import type { EndedCall } from "../auth/call.ts";

/** Of an id, hexadecimal with its dashes. */
const idLength = 36;
const idSize = idLength + 1;
const comma = 0x2c;
const openingBrace = 0x7b;
const closingBrace = 0x7d;

export class RowNumbers {
  startedAtMs: Float64Array;
  durationUs: Float64Array;
  /** -1: not known. */
  requestBytes: Float64Array;
  responseBytes: Float64Array;
  /** Numbers of what calls have in common: see `GatheredCalls`. 0: nothing. */
  kind: Int32Array;
  caller: Int32Array;
  peer: Int32Array;
  /** As text, each with a brace or a comma before it. */
  ids: Buffer;

  /** With room for so many rows at first. */
  constructor(rows: number) {
    this.startedAtMs = new Float64Array(rows);
    this.durationUs = new Float64Array(rows);
    this.requestBytes = new Float64Array(rows);
    this.responseBytes = new Float64Array(rows);
    this.kind = new Int32Array(rows);
    this.caller = new Int32Array(rows);
    this.peer = new Int32Array(rows);
    this.ids = Buffer.allocUnsafe(idsSize(rows));
  }

  /** Rows are added in their order, from 0. */
  add(row: number, call: EndedCall, kind: number, caller: number, peer: number): void {
    if (row === this.peer.length) this.#grow();
    this.startedAtMs[row] = call.startedAtMs;
    this.durationUs[row] = call.durationUs;
    this.requestBytes[row] = call.requestBytes ?? -1;
    this.responseBytes[row] = call.responseBytes ?? -1;
    this.kind[row] = kind;
    this.caller[row] = caller;
    this.peer[row] = peer;
    const at = row * idSize;
    this.ids[at] = row === 0 ? openingBrace : comma;
    this.ids.write(call.id, at + 1, idLength, "latin1");
  }

  /** What was added of a call, but for its peer. */
  at(row: number): Pick<EndedCall, "id" | "startedAtMs" | "durationUs" | "requestBytes" | "responseBytes"> {
    const known = (bytes: number | undefined) => (bytes === -1 ? undefined : bytes);
    const at = row * idSize + 1;
    return {
      id: this.ids.toString("latin1", at, at + idLength),
      startedAtMs: this.startedAtMs[row] as number,
      durationUs: this.durationUs[row] as number,
      requestBytes: known(this.requestBytes[row]),
      responseBytes: known(this.responseBytes[row]),
    };
  }

  /** The ids of so many rows, as the literal of an array in Postgres. */
  idsLiteral(rows: number): string {
    if (rows === 0) return "{}";
    // Written over by the next row.
    this.ids[rows * idSize] = closingBrace;
    // In one piece: braces around a string would have all of it copied again when it is sent.
    return this.ids.toString("latin1", 0, rows * idSize + 1);
  }

  #grow(): void {
    const rows = this.peer.length * 2;
    this.startedAtMs = larger(this.startedAtMs, new Float64Array(rows));
    this.durationUs = larger(this.durationUs, new Float64Array(rows));
    this.requestBytes = larger(this.requestBytes, new Float64Array(rows));
    this.responseBytes = larger(this.responseBytes, new Float64Array(rows));
    this.kind = larger(this.kind, new Int32Array(rows));
    this.caller = larger(this.caller, new Int32Array(rows));
    this.peer = larger(this.peer, new Int32Array(rows));
    this.ids = larger(this.ids, Buffer.allocUnsafe(idsSize(rows)));
  }
}

function idsSize(rows: number): number {
  return rows * idSize + 1;
}

function larger<T extends Float64Array | Int32Array | Uint8Array>(from: T, to: T): T {
  to.set(from);
  return to;
}

/** What of calls is numbers: in arrays that the garbage collector need not look into. */
import type { EndedCall } from "../auth/call.ts";
import { counterOf } from "../auth/call-id.ts";

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
  series: Int32Array;
  /** Of ids, within their series. */
  counter: Int32Array;

  /** With room for so many rows at first. */
  constructor(rows: number) {
    this.startedAtMs = new Float64Array(rows);
    this.durationUs = new Float64Array(rows);
    this.requestBytes = new Float64Array(rows);
    this.responseBytes = new Float64Array(rows);
    this.kind = new Int32Array(rows);
    this.caller = new Int32Array(rows);
    this.peer = new Int32Array(rows);
    this.series = new Int32Array(rows);
    this.counter = new Int32Array(rows);
  }

  /** Rows are added in their order, from 0. */
  add(row: number, call: EndedCall, kind: number, caller: number, peer: number, series: number): void {
    if (row === this.peer.length) this.#grow();
    this.startedAtMs[row] = call.startedAtMs;
    this.durationUs[row] = call.durationUs;
    this.requestBytes[row] = call.requestBytes ?? -1;
    this.responseBytes[row] = call.responseBytes ?? -1;
    this.kind[row] = kind;
    this.caller[row] = caller;
    this.peer[row] = peer;
    this.series[row] = series;
    this.counter[row] = counterOf(call.id);
  }

  /** What was added of a call, but for what it has in common with others. */
  at(row: number): Pick<EndedCall, "startedAtMs" | "durationUs" | "requestBytes" | "responseBytes"> {
    const known = (bytes: number | undefined) => (bytes === -1 ? undefined : bytes);
    return {
      startedAtMs: this.startedAtMs[row] as number,
      durationUs: this.durationUs[row] as number,
      requestBytes: known(this.requestBytes[row]),
      responseBytes: known(this.responseBytes[row]),
    };
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
    this.series = larger(this.series, new Int32Array(rows));
    this.counter = larger(this.counter, new Int32Array(rows));
  }
}

function larger<T extends Float64Array | Int32Array>(from: T, to: T): T {
  to.set(from);
  return to;
}

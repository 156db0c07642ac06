/** Decoding of header blocks (RFC 7541): those of requests, on one connection. */
import { BlockMemory } from "./block-memory.ts";
import { DynamicTable } from "./dynamic-table.ts";
import { HeaderBlock } from "./header-block.ts";
import { HpackError } from "./hpack-error.ts";
import { decodeHuffman, maxDecodedBytes } from "./huffman.ts";
import { RequestField, wrongNext, wrongRequest } from "./request-field.ts";
import { firstDynamicIndex, staticTable } from "./tables.ts";

export interface HeaderDecoderOptions {
  /** What SETTINGS_HEADER_TABLE_SIZE says. Until the client says otherwise, its table has the 4,096 bytes that a connection starts with. */
  maxTableBytes: number;
  /** What SETTINGS_MAX_HEADER_LIST_SIZE says: of a larger list no field is kept. */
  maxListBytes: number;
  /**
   * Fields with whitespace around their values are taken as if they had not come, as node:http2 has
   * it, and are not malformed. Default false.
   */
  dropsPadded?: boolean;
}

const staticFields = staticTable.map(([name, value]) => new RequestField(name, value));

/** Octets of an integer after its first: more than any length that is sent needs. */
const maxContinuation = 4;

/** Text is written here before it is a string: that is cheaper than a slice of the block for each. */
const scratch = Buffer.allocUnsafeSlow(16 * 1024);

const none: readonly never[] = Object.freeze([]);

/**
 * Blocks are to be decoded in the order in which they came, each once, those of streams
 * that are refused too: they share the dynamic table. After an HpackError nothing more can
 * be decoded.
 */
export class HeaderDecoder {
  readonly #maxTableBytes: number;
  readonly #maxListBytes: number;
  readonly #dropsPadded: boolean;
  readonly #table: DynamicTable<RequestField>;
  readonly #memory = new BlockMemory();
  #at = 0;
  #to = 0;

  constructor(options: HeaderDecoderOptions) {
    this.#maxTableBytes = options.maxTableBytes;
    this.#maxListBytes = options.maxListBytes;
    this.#dropsPadded = options.dropsPadded ?? false;
    this.#table = new DynamicTable(options.maxTableBytes);
  }

  /** Of the dynamic table, with the overhead of each entry. */
  get tableBytes(): number {
    return this.#table.bytes;
  }

  /**
   * The header block of a request, whole, at block[from..to): its fragments put together.
   * Nothing of the block is kept. Throws HpackError.
   */
  decode(block: Uint8Array, from: number, to: number): HeaderBlock {
    return this.#memory.find(block, from, to) ?? this.#decode(block, from, to, false);
  }

  /** As `decode`, for the trailers of a request. */
  decodeTrailers(block: Uint8Array, from: number, to: number): HeaderBlock {
    return this.#decode(block, from, to, true);
  }

  #decode(block: Uint8Array, from: number, to: number, isTrailer: boolean): HeaderBlock {
    this.#at = from;
    this.#to = to;
    const rawHeaders: string[] = [];
    let neverIndexed: string[] | undefined;
    let bytes = 0;
    let seen = 0;
    let malformed: string | undefined;
    let hasLiterals = false;
    let changesTable = false;
    while (this.#at < to) {
      const octet = block[this.#at] as number;
      let field: RequestField;
      if (octet >= 0x80) {
        field = this.#field(this.#integer(block, 7));
      } else if (octet >= 0x40) {
        field = this.#literal(block, 6);
        this.#table.add(field);
        changesTable = true;
      } else if (octet >= 0x20) {
        if (bytes > 0) throw new HpackError("a change of the table's size within a header block");
        this.#resize(this.#integer(block, 5));
        changesTable = true;
        continue;
      } else {
        field = this.#literal(block, 4);
        hasLiterals = true;
        if (octet >= 0x10) {
          neverIndexed ??= [];
          neverIndexed.push(field.name);
        }
      }
      bytes += field.bytes;
      if (bytes > this.#maxListBytes) {
        rawHeaders.length = 0;
        neverIndexed = undefined;
        continue;
      }
      if (this.#dropsPadded && field.isPadded) continue;
      malformed ??= wrongNext(seen, field, isTrailer);
      seen |= field.marks;
      rawHeaders.push(field.name, field.value);
    }

    const isTooLarge = bytes > this.#maxListBytes;
    if (isTooLarge) malformed = `a header list of more than ${this.#maxListBytes} bytes`;
    else if (!isTrailer) malformed ??= wrongRequest(seen);
    const list = new HeaderBlock(rawHeaders, neverIndexed ?? none, malformed, bytes, isTooLarge);
    if (changesTable) this.#memory.forget();
    else if (!isTrailer) this.#memory.put(block, from, to, list, !hasLiterals);
    return list;
  }

  #field(index: number): RequestField {
    const field =
      index < firstDynamicIndex ? staticFields[index - 1] : this.#table.at(index - firstDynamicIndex);
    if (field === undefined) throw new HpackError("an index that is not in the tables");
    return field;
  }

  #literal(block: Uint8Array, prefixBits: number): RequestField {
    const index = this.#integer(block, prefixBits);
    const name = index === 0 ? this.#string(block) : this.#field(index).name;
    return new RequestField(name, this.#string(block));
  }

  #resize(bytes: number): void {
    if (bytes > this.#maxTableBytes) throw new HpackError("a table that is larger than was agreed on");
    this.#table.resize(bytes);
  }

  /** Section 5.1. */
  #integer(block: Uint8Array, prefixBits: number): number {
    const most = (1 << prefixBits) - 1;
    let value = (block[this.#at++] as number) & most;
    if (value < most) return value;
    for (let n = 0; n < maxContinuation; n++) {
      const octet = this.#octet(block);
      value += (octet & 0x7f) << (7 * n);
      if (octet < 0x80) return value;
    }
    throw new HpackError("an integer that is too large");
  }

  /** Section 5.2. */
  #string(block: Uint8Array): string {
    if (this.#at >= this.#to) throw new HpackError("a header block that ends within a field");
    const isHuffman = (block[this.#at] as number) >= 0x80;
    const length = this.#integer(block, 7);
    const from = this.#at;
    const to = from + length;
    if (to > this.#to) throw new HpackError("a header block that ends within a field");
    this.#at = to;
    if (!isHuffman) return readPlain(block, from, to);
    const most = maxDecodedBytes(length);
    const target = most <= scratch.length ? scratch : Buffer.allocUnsafeSlow(most);
    const decoded = decodeHuffman(block, from, to, target);
    if (decoded < 0) throw new HpackError("a string that is no Huffman code");
    return target.toString("latin1", 0, decoded);
  }

  #octet(block: Uint8Array): number {
    if (this.#at >= this.#to) throw new HpackError("a header block that ends within a field");
    return block[this.#at++] as number;
  }
}

function readPlain(block: Uint8Array, from: number, to: number): string {
  const length = to - from;
  if (length > scratch.length) return Buffer.from(block.subarray(from, to)).toString("latin1");
  for (let i = 0; i < length; i++) scratch[i] = block[from + i] as number;
  return scratch.toString("latin1", 0, length);
}

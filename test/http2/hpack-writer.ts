/** Header blocks in any representation that RFC 7541 knows: a client of whatever mind. */
import { huffmanCodes } from "../../src/http2/hpack/huffman.ts";
import { huffmanCodeLengths, staticTable } from "../../src/http2/hpack/tables.ts";

export type Field = readonly [name: string, value: string];

export interface Manner {
  /** How a literal is written; `indexed`: as an index where there is one, else a literal that is indexed. */
  readonly as: "indexed" | "incremental" | "without" | "never";
  readonly isHuffman: boolean;
  /** A name that is in a table is written all the same. */
  readonly spellsName: boolean;
}

export const plain: Manner = { as: "without", isHuffman: false, spellsName: true };

const codes = huffmanCodes();

export function huffman(text: string): number[] {
  let bits = "";
  for (const character of text) {
    const symbol = character.charCodeAt(0);
    bits += codes[symbol]!.toString(2).padStart(huffmanCodeLengths[symbol]!, "0");
  }
  return fromBits(bits.padEnd(Math.ceil(bits.length / 8) * 8, "1"));
}

/** Of a length that is a multiple of eight. */
export function fromBits(bits: string): number[] {
  return Array.from({ length: bits.length / 8 }, (_, i) => Number.parseInt(bits.slice(8 * i, 8 * i + 8), 2));
}

export function integer(pattern: number, prefixBits: number, value: number): number[] {
  const most = 2 ** prefixBits - 1;
  if (value < most) return [pattern | value];
  const octets = [pattern | most];
  let rest = value - most;
  for (; rest >= 128; rest = Math.floor(rest / 128)) octets.push((rest % 128) | 128);
  return [...octets, rest];
}

export function string(text: string, isHuffman: boolean): number[] {
  const octets = isHuffman ? huffman(text) : [...Buffer.from(text, "latin1")];
  return [...integer(isHuffman ? 0x80 : 0, 7, octets.length), ...octets];
}

/** A list as literals that change no table. */
export function literals(fields: readonly Field[]): Buffer {
  return new Writer().block(fields.map((field) => [field, plain]));
}

/** Keeps its dynamic table as a list, the latest entry first: slow, and plain to see. */
export class Writer {
  entries: Field[] = [];
  maxBytes = 4096;

  /** Written at the start of a block. */
  resize(bytes: number): number[] {
    this.maxBytes = bytes;
    this.#evict();
    return integer(0x20, 5, bytes);
  }

  block(fields: readonly (readonly [Field, Manner])[]): Buffer {
    return Buffer.from(fields.flatMap(([field, manner]) => this.field(field, manner)));
  }

  field([name, value]: Field, { as, isHuffman, spellsName }: Manner): number[] {
    const all = [...staticTable, ...this.entries];
    const index = 1 + all.findIndex((entry) => entry[0] === name && entry[1] === value);
    if (as === "indexed" && index > 0) return integer(0x80, 7, index);
    const nameIndex = spellsName ? 0 : 1 + all.findIndex((entry) => entry[0] === name);
    const text = [...(nameIndex === 0 ? string(name, isHuffman) : []), ...string(value, isHuffman)];
    if (as === "without") return [...integer(0, 4, nameIndex), ...text];
    if (as === "never") return [...integer(0x10, 4, nameIndex), ...text];
    this.entries.unshift([name, value]);
    this.#evict();
    return [...integer(0x40, 6, nameIndex), ...text];
  }

  get bytes(): number {
    return this.entries.reduce((sum, [name, value]) => sum + name.length + value.length + 32, 0);
  }

  #evict(): void {
    while (this.bytes > this.maxBytes) this.entries.pop();
  }
}

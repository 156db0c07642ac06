/** Decoding of the Huffman code (RFC 7541, section 5.2): four bits a step. */
import { endOfString, huffmanCodeLengths } from "./tables.ts";

const maxCodeLength = 30;

/** Octets that so many octets of Huffman code may be at most: no code is shorter than five bits. */
export function maxDecodedBytes(codedBytes: number): number {
  return Math.ceil((codedBytes * 8) / 5);
}

/** The code of each symbol, right-aligned. */
export function huffmanCodes(): number[] {
  const codes: number[] = new Array(huffmanCodeLengths.length);
  let next = 0;
  for (let length = 1; length <= maxCodeLength; length++) {
    next <<= 1;
    for (let symbol = 0; symbol < huffmanCodeLengths.length; symbol++) {
      if (huffmanCodeLengths[symbol] === length) codes[symbol] = next++;
    }
  }
  return codes;
}

/** Of a step: the state after it, in the bits below these. */
const hasOctet = 0x100;
const isError = 0x200;
const octetShift = 16;

/**
 * States are the inner nodes of the code's tree: 256, as there are 257 leaves. The first is
 * its root. No code is shorter than five bits, so a step of four ends one symbol at most.
 */
const { steps, isPadding } = createSteps();

/**
 * Decodes block[from..to) into the target, which has `maxDecodedBytes` of room, and returns
 * how many octets there are. -1: it has `endOfString` in it, or other padding than the
 * beginning of that, or more than seven bits of it.
 */
export function decodeHuffman(block: Uint8Array, from: number, to: number, target: Uint8Array): number {
  let at = 0;
  let state = 0;
  for (let i = from; i < to; i++) {
    const octet = block[i] as number;
    const first = steps[(state << 4) | (octet >> 4)] as number;
    if ((first & hasOctet) !== 0) target[at++] = first >> octetShift;
    const second = steps[((first & 0xff) << 4) | (octet & 15)] as number;
    if ((second & hasOctet) !== 0) target[at++] = second >> octetShift;
    if (((first | second) & isError) !== 0) return -1;
    state = second & 0xff;
  }
  return isPadding[state] === 1 ? at : -1;
}

function createSteps(): { steps: Uint32Array; isPadding: Uint8Array } {
  /** By node and bit: the next node, or the complement of a symbol. */
  const children: [number, number][] = [[0, 0]];
  const codes = huffmanCodes();
  for (const [symbol, length] of huffmanCodeLengths.entries()) {
    const code = codes[symbol] as number;
    let node = 0;
    for (let bit = length - 1; bit > 0; bit--) {
      const pair = children[node] as [number, number];
      const side = ((code >> bit) & 1) as 0 | 1;
      if (pair[side] === 0) pair[side] = children.push([0, 0]) - 1;
      node = pair[side];
    }
    (children[node] as [number, number])[(code & 1) as 0 | 1] = ~symbol;
  }

  const steps = new Uint32Array(children.length * 16);
  for (let state = 0; state < children.length; state++) {
    for (let nibble = 0; nibble < 16; nibble++) {
      let node = state;
      let found = 0;
      for (let bit = 3; bit >= 0; bit--) {
        node = (children[node] as [number, number])[((nibble >> bit) & 1) as 0 | 1];
        if (node >= 0) continue;
        found = node === ~endOfString ? isError : hasOctet | (~node << octetShift);
        node = 0;
      }
      steps[(state << 4) | nibble] = found | node;
    }
  }

  const isPadding = new Uint8Array(children.length);
  for (let node = 0, bits = 0; bits < 8; bits++) {
    isPadding[node] = 1;
    node = (children[node] as [number, number])[1];
  }
  return { steps, isPadding };
}

/** A decoder of header blocks (RFC 7541) that is plain rather than fast, and refuses what no encoder may send. */
import assert from "node:assert/strict";

/** Appendix A, of index 1 on: the names, and the values of those that have one. */
const staticTable: readonly (readonly [string, string])[] = (
  ":authority|:method=GET|:method=POST|:path=/|:path=/index.html|:scheme=http|:scheme=https|:status=200|:status=204|" +
  ":status=206|:status=304|:status=400|:status=404|:status=500|accept-charset|accept-encoding=gzip, deflate|" +
  "accept-language|accept-ranges|accept|access-control-allow-origin|age|allow|authorization|cache-control|" +
  "content-disposition|content-encoding|content-language|content-length|content-location|content-range|" +
  "content-type|cookie|date|etag|expect|expires|from|host|if-match|if-modified-since|if-none-match|if-range|" +
  "if-unmodified-since|last-modified|link|location|max-forwards|proxy-authenticate|proxy-authorization|range|" +
  "referer|refresh|retry-after|server|set-cookie|strict-transport-security|transfer-encoding|user-agent|vary|via|" +
  "www-authenticate"
)
  .split("|")
  .map((entry) => entry.split("=", 2) as [string, string?])
  .map(([name, value = ""]) => [name, value]);

/**
 * Appendix B: of each byte, and at last of EOS, how many bits its code has, in base 36. The
 * codes follow from that: they are counted up, from the shortest on, in the order of the bytes.
 */
const codeLengths =
  "dnsssssssoussussssssssusssssssss6aacd68baa8b8666555666666678f6cad67777777777777777777777878djde6" +
  "f56565666577666567655677777fbedskmkkmmmnmnnnnnonoomnonnnnlmnmnnomlkmmnnlnmmolmnnllmlnmnnkmmmnmmn" +
  "qqkjmnmpqqqrrqopjlqrrqrollqqsrrrkoklmllnmmppooqnqrqqrrrrrsrrrrrqu";

const endOfString = 256;

/** The symbol of each code, written as the digits of its bits. */
const symbols = new Map<string, number>();
{
  const lengths = [...codeLengths].map((digit) => Number.parseInt(digit, 36));
  const order = [...lengths.keys()].sort((a, b) => lengths[a]! - lengths[b]! || a - b);
  let code = 0;
  let length = 0;
  for (const symbol of order) {
    code *= 2 ** (lengths[symbol]! - length);
    length = lengths[symbol]!;
    symbols.set(code.toString(2).padStart(length, "0"), symbol);
    code++;
  }
}

export type Fields = readonly (readonly [name: string, value: string])[];

/** The size of an entry (section 4.1). */
const sizeOf = ([name, value]: readonly [string, string]) => name.length + value.length + 32;

export class HeaderDecoder {
  /** The latest first. */
  readonly #dynamic: [string, string][] = [];
  #capacity = 4096;
  #limit = 4096;
  /** The lowest limit that the encoder has yet to say it heeds. */
  #owed: number | undefined;

  /** What the encoder was told by SETTINGS_HEADER_TABLE_SIZE and has acknowledged. */
  setLimit(bytes: number): void {
    this.#limit = bytes;
    if (bytes < this.#capacity) this.#owed = Math.min(bytes, this.#owed ?? bytes);
  }

  /** Throws for what is a COMPRESSION_ERROR. */
  decode(block: Buffer): Fields {
    const fields: [string, string][] = [];
    let at = 0;

    const integer = (prefixBits: number): number => {
      const most = 2 ** prefixBits - 1;
      let value = block[at++]! & most;
      if (value < most) return value;
      for (let shift = 1; ; shift *= 128) {
        const byte = block[at++];
        if (byte === undefined) throw new Error("an integer ends with its block");
        value += (byte & 127) * shift;
        if (byte < 128) return value;
      }
    };
    const text = (): string => {
      const isCoded = (block[at] ?? 0) >= 128;
      const length = integer(7);
      if (at + length > block.length) throw new Error("a string is longer than its block");
      const bytes = block.subarray(at, at + length);
      at += length;
      return isCoded ? decodeHuffman(bytes) : bytes.toString("latin1");
    };

    while (at < block.length) {
      const first = block[at]!;
      if ((first & 0xe0) === 0x20) {
        if (fields.length > 0) throw new Error("a table size update comes after a field");
        this.#resize(integer(5));
        continue;
      }
      if (this.#owed !== undefined) throw new Error("the table was lowered, and the block does not say so");
      if (first >= 0x80) {
        fields.push(this.#entry(integer(7)));
        continue;
      }
      const isIndexed = first >= 0x40;
      const index = integer(isIndexed ? 6 : 4);
      const name = index === 0 ? text() : this.#entry(index)[0];
      const field: [string, string] = [name, text()];
      fields.push(field);
      if (isIndexed) this.#add(field);
    }
    return fields;
  }

  #entry(index: number): [string, string] {
    const entry = staticTable[index - 1] ?? this.#dynamic[index - 1 - staticTable.length];
    if (entry === undefined) throw new Error(`there is no entry ${index}`);
    return [...entry];
  }

  #resize(bytes: number): void {
    if (bytes > this.#limit) throw new Error(`the table is made ${bytes} bytes, of ${this.#limit} allowed`);
    if (this.#owed !== undefined && bytes <= this.#owed) this.#owed = undefined;
    this.#capacity = bytes;
    this.#evict();
  }

  #add(field: [string, string]): void {
    this.#dynamic.unshift(field);
    this.#evict();
  }

  #evict(): void {
    let used = this.#dynamic.reduce((sum, entry) => sum + sizeOf(entry), 0);
    while (used > this.#capacity) used -= sizeOf(this.#dynamic.pop()!);
  }
}

/** A string literal in Huffman's code. */
export function huffmanLiteral(text: string): Buffer {
  const codes = new Map([...symbols].map(([code, symbol]) => [symbol, code]));
  const bits = [...Buffer.from(text, "latin1")].map((byte) => codes.get(byte)).join("");
  const bytes = bits.match(/.{1,8}/g)?.map((each) => Number.parseInt(each.padEnd(8, "1"), 2)) ?? [];
  assert.ok(bytes.length < 127, "the length is of one byte");
  return Buffer.from([0x80 | bytes.length, ...bytes]);
}

function decodeHuffman(bytes: Buffer): string {
  let text = "";
  let code = "";
  for (const byte of bytes) {
    for (const bit of byte.toString(2).padStart(8, "0")) {
      code += bit;
      const symbol = symbols.get(code);
      if (symbol === undefined) continue;
      if (symbol === endOfString) throw new Error("a string holds EOS");
      text += String.fromCharCode(symbol);
      code = "";
    }
  }
  // The padding is of the highest bits of EOS, and less than a byte (section 5.2).
  if (code.length > 7 || code.includes("0")) throw new Error("a string's padding is not that of EOS");
  return text;
}

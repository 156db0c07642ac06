/** Encoding of header blocks (RFC 7541): those of answers, on one connection. */
import { DynamicTable } from "./dynamic-table.ts";
import { isFieldName, isFieldValue } from "./field-text.ts";
import { defaultTableBytes, fieldOverheadBytes, firstDynamicIndex, staticTable } from "./tables.ts";

/** Of what is a secret, or is one's own: nobody on the way is to index it either (section 7.1.3). */
const neverIndexed = ["set-cookie", "authorization", "proxy-authorization", "cookie"];

/** Of what is likely to be new each time, or soon: it would push out what repeats itself. */
const notIndexed = [
  "age",
  "content-length",
  "date",
  "etag",
  "expires",
  "last-modified",
  "location",
  "x-request-id",
];

/** Names of which a connection remembers what they had, beside those of the static table: few programs have so many. */
const maxNames = 64;

/** Of an index or a length in a block: four octets after the first. */
const maxIntegerBytes = 5;

/** An entry of one of the tables. */
interface Entry {
  readonly name: KnownName;
  readonly value: string;
  readonly bytes: number;
  /** Undefined: of the dynamic table. */
  readonly staticIndex: number | undefined;
  /** How many were added to the dynamic table before it. */
  readonly addedBefore: number;
}

interface KnownName {
  /** 0: it is not in the static table. */
  readonly staticIndex: number;
  readonly policy: "repeats" | "changes" | "secret";
  readonly entries: Map<string, Entry>;
  /** The entry that was used last, as long as it is in its table. */
  recent: Entry | undefined;
  /** The value that was sent last as a literal. */
  literal: string | undefined;
}

/** Blocks are to be sent in the order in which they were encoded, each once: they share the dynamic table. */
export class HeaderEncoder {
  readonly #names = new Map<string, KnownName>();
  readonly #table = new DynamicTable<Entry>(defaultTableBytes, forget);
  /** The least size of the table since the last block. */
  #leastTableBytes = defaultTableBytes;
  /** What the client's table has, as far as it was told. Infinite: it has to be told. */
  #toldTableBytes = defaultTableBytes;

  /**
   * What the client's SETTINGS_HEADER_TABLE_SIZE says, default 4,096: to be called before the
   * settings are acknowledged. No more than the default is used.
   */
  setMaxTableBytes(bytes: number): void {
    const maxBytes = Math.min(bytes, defaultTableBytes);
    this.#leastTableBytes = Math.min(this.#leastTableBytes, maxBytes);
    this.#table.resize(maxBytes);
  }

  /** Bytes that the block of these fields takes at most. */
  room(fields: readonly string[]): number {
    let bytes = 2 * maxIntegerBytes;
    for (let i = 0; i < fields.length; i++) bytes += (fields[i] as string).length;
    return bytes + (fields.length >> 1) * 3 * maxIntegerBytes;
  }

  /**
   * Writes the block at an offset of the target, which has `room` for it, and returns where
   * it ends. Fields are names in lower case and values in turn; values are Latin-1.
   *
   * A value is indexed when it comes for the second time in a row for its name: what is new
   * each time never is.
   *
   * Throws TypeError for a field that HTTP does not allow: nothing of the block may be sent then.
   */
  encode(fields: readonly string[], target: Uint8Array, at: number): number {
    let next = at;
    try {
      if (this.#table.maxBytes !== this.#toldTableBytes || this.#leastTableBytes < this.#toldTableBytes) {
        next = this.#writeTableBytes(target, next);
      }
      for (let i = 0; i < fields.length; i += 2) {
        next = this.#writeField(fields[i] as string, fields[i + 1] as string, target, next);
      }
      if (next > target.length) throw new RangeError("no room for a header block");
      return next;
    } catch (error) {
      this.#startAnew();
      throw error;
    }
  }

  #writeField(text: string, value: string, target: Uint8Array, at: number): number {
    const name = this.#names.get(text) ?? this.#learn(text);
    let entry = name.recent;
    if (entry === undefined || entry.value !== value) {
      // A value that is new each time would be hashed in vain, which takes longer than writing it.
      entry = name.entries.size === 0 ? undefined : name.entries.get(value);
      if (entry === undefined) return this.#writeLiteral(text, name, value, target, at);
      name.recent = entry;
    }
    const index = this.#indexOf(entry);
    if (index >= 0x7f) return writeInteger(0x80, 0x7f, index, target, at);
    target[at] = 0x80 | index;
    return at + 1;
  }

  #writeLiteral(text: string, name: KnownName, value: string, target: Uint8Array, at: number): number {
    if (!isFieldValue(value)) throw new TypeError(`a value of ${text} that HTTP does not allow`);
    const { policy, recent } = name;
    const nameIndex = name.staticIndex > 0 || recent === undefined ? name.staticIndex : this.#indexOf(recent);
    const isIndexed = policy === "repeats" && this.#index(text, name, value);
    let next: number;
    if (isIndexed) next = writeInteger(0x40, 0x3f, nameIndex, target, at);
    else next = writeInteger(policy === "secret" ? 0x10 : 0, 0x0f, nameIndex, target, at);
    if (nameIndex === 0) next = writeText(text, target, next);
    return writeText(value, target, next);
  }

  /** Whether it is in the dynamic table now. */
  #index(text: string, name: KnownName, value: string): boolean {
    const bytes = text.length + value.length + fieldOverheadBytes;
    // A large entry would push out all others.
    if (bytes > this.#table.maxBytes / 4) return false;
    if (name.literal !== value) {
      name.literal = value;
      return false;
    }
    const entry = { name, value, bytes, staticIndex: undefined, addedBefore: this.#table.added };
    this.#table.add(entry);
    name.entries.set(value, entry);
    name.recent = entry;
    name.literal = undefined;
    return true;
  }

  #indexOf(entry: Entry): number {
    return entry.staticIndex ?? firstDynamicIndex + this.#table.added - 1 - entry.addedBefore;
  }

  #learn(text: string): KnownName {
    const statics = staticNames.get(text);
    if (statics === undefined && !isFieldName(text)) {
      throw new TypeError("a field name that HTTP does not allow");
    }
    const name = createName(text, statics);
    if (statics !== undefined || this.#names.size < maxNames) this.#names.set(text, name);
    return name;
  }

  /** Section 4.2: the least size first, so that the client drops what was dropped here. */
  #writeTableBytes(target: Uint8Array, at: number): number {
    const { maxBytes } = this.#table;
    let next = at;
    if (this.#leastTableBytes < Math.min(maxBytes, this.#toldTableBytes)) {
      next = writeInteger(0x20, 0x1f, this.#leastTableBytes, target, next);
    }
    next = writeInteger(0x20, 0x1f, maxBytes, target, next);
    this.#toldTableBytes = maxBytes;
    this.#leastTableBytes = maxBytes;
    return next;
  }

  /** With an empty table, as the client does not get the entries of this block. */
  #startAnew(): void {
    const { maxBytes } = this.#table;
    this.#table.resize(0);
    this.#table.resize(maxBytes);
    this.#leastTableBytes = 0;
    this.#toldTableBytes = Number.POSITIVE_INFINITY;
  }
}

function forget(entry: Entry): void {
  entry.name.entries.delete(entry.value);
  if (entry.name.recent === entry) entry.name.recent = undefined;
}

/** By name: the index of the name, and those of its values. */
const staticNames = new Map<string, { index: number; values: Map<string, number> }>();
for (const [i, [name, value]] of staticTable.entries()) {
  const before = staticNames.get(name);
  if (before === undefined) staticNames.set(name, { index: i + 1, values: new Map([[value, i + 1]]) });
  else before.values.set(value, i + 1);
}

function createName(
  text: string,
  statics: { index: number; values: Map<string, number> } | undefined,
): KnownName {
  const name: KnownName = {
    staticIndex: statics?.index ?? 0,
    policy: neverIndexed.includes(text) ? "secret" : notIndexed.includes(text) ? "changes" : "repeats",
    entries: new Map(),
    recent: undefined,
    literal: undefined,
  };
  for (const [value, staticIndex] of statics?.values ?? []) {
    name.entries.set(value, { name, value, bytes: 0, staticIndex, addedBefore: 0 });
  }
  return name;
}

function writeText(text: string, target: Uint8Array, at: number): number {
  const next = writeInteger(0, 0x7f, text.length, target, at);
  for (let i = 0; i < text.length; i++) target[next + i] = text.charCodeAt(i);
  return next + text.length;
}

function writeInteger(pattern: number, most: number, value: number, target: Uint8Array, at: number): number {
  if (value < most) {
    target[at] = pattern | value;
    return at + 1;
  }
  target[at] = pattern | most;
  let next = at + 1;
  let rest = value - most;
  for (; rest >= 0x80; rest >>= 7) target[next++] = 0x80 | (rest & 0x7f);
  target[next++] = rest;
  return next;
}

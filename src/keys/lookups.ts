/** Look-ups of grants in the database: many in one statement, and those of each source in their turn. */
import { formatAddressRange, parseAddressRange } from "../auth/address-range.ts";
import { type Grant, GrantsUnavailableError } from "../auth/grant.ts";
import { within } from "../within.ts";

export interface LookupOptions {
  /** Reads the grants of these hashes; of a hash that no key has there is none. */
  readGrants: (hashes: readonly string[]) => Promise<ReadonlyMap<string, Grant>>;
  /** Milliseconds after which nobody waits for a look-up any more. */
  timeoutMs: number;
}

export interface GrantLookups {
  /**
   * Reads a grant by a statement that begins after this call. Rejects with
   * {@link GrantsUnavailableError} where too many of the same source wait already,
   * and with what the statement fails with.
   */
  read(hash: string, source: LookupSource): Promise<Grant | undefined>;
  /** Look-ups that no statement has been sent for yet. */
  readonly waiting: number;
}

/** Who asks: the address that a token came from, or "known" for a hash that a key is known to have. */
export type LookupSource = { readonly address: string | undefined } | "known";

interface Waiting {
  readonly hash: string;
  /** By performance.now(). */
  readonly giveUpAtMs: number;
  readonly resolve: (grant: Grant | undefined) => void;
  readonly reject: (error: unknown) => void;
}

/** As many as the connections that verdicts have. */
const maxStatements = 4;
/** More would save few statements, and their answers, all at once, would hold up everyone else. */
const maxPerStatement = 64;
/** All that wait fit into eight rounds of statements: whoever is let in is answered by the ninth. */
const maxWaiting = 8 * maxStatements * maxPerStatement;

/**
 * Creates the look-ups. That nobody has a token is known only once it was looked
 * up, so a flood of made-up tokens is a flood of look-ups, and a key that is not in
 * memory yet stands in line with them. Hence:
 *
 * - While all statements are under way, look-ups gather for the next one: what the
 *   database is asked grows with its own pace, not with that of the flood.
 * - The next statement takes one of each source, then a second of each, and so on.
 *   Keys that are known go first.
 * - A source may have as many waiting as there are places left (the dynamic
 *   threshold of Choudhury and Hahne, 1998): one that floods fills half of the line,
 *   ten that flood ten elevenths, and another still finds a place.
 */
export function createGrantLookups(options: LookupOptions): GrantLookups {
  const known: Waiting[] = [];
  /** In the order of their turns. */
  const bySource = new Map<string, Waiting[]>();
  let waiting = 0;
  let statements = 0;

  function line(source: LookupSource): Waiting[] {
    if (source === "known") return known;
    const name = sourceOf(source.address);
    const own = bySource.get(name) ?? [];
    if (own.length >= maxWaiting - waiting) throw new GrantsUnavailableError("too many look-ups at once");
    bySource.set(name, own);
    waiting++;
    return own;
  }

  function takeNext(): Waiting[] {
    const taken = known.splice(0, maxPerStatement);
    // A source that has more is put back behind the others, and comes round again.
    for (const [source, own] of bySource) {
      if (taken.length >= maxPerStatement) break;
      const next = own.shift();
      bySource.delete(source);
      if (own.length > 0) bySource.set(source, own);
      waiting--;
      if (next !== undefined) taken.push(next);
    }
    const nowMs = performance.now();
    return taken.filter((each) => {
      if (each.giveUpAtMs > nowMs) return true;
      each.reject(new GrantsUnavailableError("the look-up waited for too long"));
      return false;
    });
  }

  function startStatements(): void {
    while (statements < maxStatements && (waiting > 0 || known.length > 0)) {
      const batch = takeNext();
      if (batch.length === 0) continue;
      statements++;
      void run(batch).finally(() => {
        statements--;
        startStatements();
      });
    }
  }

  async function run(batch: readonly Waiting[]): Promise<void> {
    try {
      const hashes = [...new Set(batch.map(({ hash }) => hash))];
      // A connection that is silent must not keep its place: by then nobody waits for it.
      const found = await within(options.timeoutMs, options.readGrants(hashes));
      for (const { hash, resolve } of batch) resolve(found.get(hash));
    } catch (error) {
      for (const { reject } of batch) reject(error);
    }
  }

  return {
    get waiting() {
      return waiting + known.length;
    },
    read(hash, source) {
      return new Promise((resolve, reject) => {
        const giveUpAtMs = performance.now() + options.timeoutMs;
        line(source).push({ hash, giveUpAtMs, resolve, reject });
        startStatements();
      });
    },
  };
}

/** Whoever has one IPv6 address has the 2^64 beside it (RFC 6177): they are one source. */
function sourceOf(address = ""): string {
  const block = address.includes(":") ? parseAddressRange(`${address}/64`) : undefined;
  return block === undefined ? address : formatAddressRange(block);
}

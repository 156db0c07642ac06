/** What a page keeps in the URL's query: read leniently, written without what is empty. */

export type Field<T> = (text: string) => T | undefined;
type Values<F extends Record<string, Field<unknown>>> = {
  [K in keyof F]?: Exclude<ReturnType<F[K]>, undefined> | undefined;
};

/** Any text that is not empty. */
export const text: Field<string> = (value) => (value === "" ? undefined : value);

/** One of some words. */
export function oneOf<const T extends string>(words: readonly T[]): Field<T> {
  return (value) => words.find((word) => word === value);
}

/** A whole number from 0. */
export const count: Field<number> = (value) => (/^\d{1,9}$/.test(value) ? Number(value) : undefined);

/** "1" or nothing. */
export const flag: Field<"1"> = oneOf(["1"]);

/** An id of the database, in digits. */
export const id: Field<string> = (value) => (/^[1-9]\d{0,18}$/.test(value) ? value : undefined);

/**
 * The check of a route's query: fields that are not named, or whose text is none of
 * theirs, are left out, so that an old or mistyped link still opens its page.
 */
export function searchOf<F extends Record<string, Field<unknown>>>(fields: F) {
  return (raw: Record<string, unknown>): Values<F> => {
    const values: Record<string, unknown> = {};
    for (const [name, field] of Object.entries(fields)) {
      const given = raw[name];
      const value = given === undefined ? undefined : field(String(given));
      if (value !== undefined) values[name] = value;
    }
    return values as Values<F>;
  };
}

export function parseSearch(query: string): Record<string, string> {
  return Object.fromEntries(new URLSearchParams(query));
}

export function stringifySearch(values: Record<string, unknown>): string {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(values)) {
    if (value !== undefined && value !== null && value !== "") query.set(name, String(value));
  }
  return query.size === 0 ? "" : `?${query}`;
}

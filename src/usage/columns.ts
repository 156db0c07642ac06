/**
 * What a statement is given many of, sent as columns: each is a parameter, the literal
 * of a Postgres array, like `{1,2,NULL}`. Written here rather than by postgres.js,
 * which goes over each value with two regular expressions: that was half of what
 * recording a call cost.
 */
import { type SQL, sql } from "drizzle-orm";

/** A column as a statement names it. */
export interface Named {
  readonly name: string;
  readonly type: "bigint" | "inet" | "int" | "smallint" | "text" | "uuid";
}

export interface Column<Thing> extends Named {
  /** Its value as it stands in the literal of an array: see {@link quote}. Undefined: NULL. */
  readonly literal: (thing: Thing) => string | number | bigint | undefined;
}

/** Values of placeholders. */
export type Values = Record<string, string>;

/** The parameter of a column, an array. `of` tells it from those of other columns of that name. */
export function array(of: string, column: Named): SQL {
  return sql`${sql.placeholder(valueName(of, column))}::${sql.raw(column.type)}[]`;
}

/** How a statement refers to the array of a column. */
export type ArrayOf = (of: string, column: Named) => SQL;

/** Columns as rows, for FROM: `unnest(…) AS <of> (<names>)`, where they are numbered as `numbered`. */
export function unnest(
  of: string,
  columns: readonly Named[],
  numbered?: string,
  arrayOf: ArrayOf = array,
): SQL {
  const arrays = columns.map((column) => arrayOf(of, column));
  const names = columns.map(({ name }) => name);
  if (numbered !== undefined) names.push(numbered);
  return sql`unnest(${sql.join(arrays, sql`, `)}) ${sql.raw(numbered === undefined ? "" : "WITH ORDINALITY")}
    AS ${sql.raw(`${of} (${names.join(", ")})`)}`;
}

/** The values of columns. */
export function valuesOf<Thing>(
  of: string,
  columns: readonly Column<Thing>[],
  things: readonly Thing[],
): Values {
  return Object.fromEntries(
    columns.map((column) => [valueName(of, column), arrayLiteral(things.map(column.literal))]),
  );
}

/** By which a placeholder finds the value of a column. */
export function valueName(of: string, { name }: Named): string {
  return `${of} ${name}`;
}

/**
 * The literal of an array. Its braces are joined with the rest: added afterwards, they
 * would have all of it copied. One of NULLs alone is empty, which reads the same: of
 * an array, what is past its end is NULL.
 */
export function arrayLiteral(values: (string | number | bigint | undefined)[]): string {
  if (values.every((value) => value === undefined)) return "{}";
  for (let n = 0; n < values.length; n++) values[n] ??= "NULL";
  values[0] = `{${values[0]}`;
  values[values.length - 1] = `${values.at(-1)}}`;
  return values.join(",");
}

/** A text within the literal of an array (PostgreSQL, "Array Value Input"). */
export function quote(text: string): string {
  return `"${/["\\]/.test(text) ? text.replace(/["\\]/g, "\\$&") : text}"`;
}

/** A number of milliseconds since the epoch as an instant. By way of float8: dividing a numeric takes longer than all else that a row's time needs. */
export function instantOf(ms: SQL): SQL {
  return sql`to_timestamp(${ms} / 1000::float8)`;
}

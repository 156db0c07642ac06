/** Results: tables for people, one JSON object a line for programs. */
import {
  type DescEnum,
  type DescMessage,
  type MessageShape,
  type Registry,
  toJsonString,
} from "@bufbuild/protobuf";
import stringWidth from "string-width";
import { plain, type Terminal } from "./terminal.ts";

export interface Column<T> {
  readonly title: string;
  readonly cell: (row: T) => string;
  /** Numbers stand at the right. */
  readonly right?: true;
}

/** Makes the lines of a table that comes page by page: columns keep the width that they had. */
export function createTable<T>(
  terminal: Terminal,
  columns: readonly Column<T>[],
): { lines(rows: readonly T[]): string } {
  const widths = columns.map(({ title }) => stringWidth(title));
  let hasHead = false;

  const line = (cells: readonly string[], style: (text: string) => string = (text) => text) =>
    cells
      .map((cell, i) => {
        const padding = " ".repeat(Math.max(0, (widths[i] ?? 0) - stringWidth(cell)));
        if (columns[i]?.right) return padding + style(cell);
        return i === cells.length - 1 ? style(cell) : style(cell) + padding;
      })
      .join("  ")
      .trimEnd();

  return {
    lines(rows) {
      const cells = rows.map((row) => columns.map(({ cell }) => plain(cell(row)) || "-"));
      for (const each of cells) {
        each.forEach((cell, i) => {
          widths[i] = Math.max(widths[i] ?? 0, stringWidth(cell));
        });
      }
      const lines = cells.map((each) => line(each));
      if (!hasHead) {
        const titles = columns.map(({ title }) => title);
        lines.unshift(line(titles, (title) => terminal.style("bold", title)));
      }
      hasHead = true;
      return lines.map((text) => `${text}\n`).join("");
    },
  };
}

/** Names and values, one a line; what has no value is left out. */
export function details(terminal: Terminal, values: readonly (readonly [string, string])[]): string {
  const shown = values.filter(([, value]) => value !== "");
  const width = Math.max(...shown.map(([name]) => name.length));
  return shown
    .map(
      ([name, value]) =>
        `${terminal.style("bold", name)}${" ".repeat(width - name.length)}  ${plain(value)}\n`,
    )
    .join("");
}

/** A message in protobuf's JSON form, its defaults written out, on one line. */
export function json<D extends DescMessage>(
  schema: D,
  message: MessageShape<D>,
  registry?: Registry,
): string {
  const text = toJsonString(schema, message, { alwaysEmitImplicit: true, ...(registry && { registry }) });
  return `${escapeControls(text)}\n`;
}

/** JSON lets these stand as they are; a terminal would heed some. */
export function escapeControls(text: string): string {
  return text.replace(
    /[\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]/g,
    (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

/** A value of an enum as people write it: "user-ended"; nothing for the unspecified one. */
export function enumText(desc: DescEnum, value: number): string {
  if (value === 0) return "";
  return desc.value[value]?.localName.toLowerCase().replaceAll("_", "-") ?? String(value);
}

/** What people may write for a value of an enum. */
export function enumTexts(desc: DescEnum): string[] {
  return desc.values.map(({ number }) => enumText(desc, number)).filter(Boolean);
}

/** The value that such a text stands for; undefined: the unspecified one. */
export function enumValue(desc: DescEnum, text: string | undefined): number {
  return desc.values.find(({ number }) => number !== 0 && enumText(desc, number) === text)?.number ?? 0;
}

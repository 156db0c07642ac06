/** What a table shows of each row, and in which order. */
import type { ReactNode } from "react";

export interface Column<Row> {
  readonly id: string;
  readonly header: string;
  readonly cell: (row: Row) => ReactNode;
  /** Numbers stand at the end. */
  readonly align?: "end";
  /** Can be sorted by; and which way first. */
  readonly sort?: "ascending" | "descending";
  /** CSS width; without one the column takes what its content needs. */
  readonly width?: string;
  /** Left out where the table is narrower than about 600 pixels ("compact"), 860 ("wide") or 1050 ("widest"). */
  readonly only?: "compact" | "wide" | "widest";
}

export interface Sort {
  /** The id of a column. */
  readonly by: string;
  readonly descending: boolean;
}

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
  /** In a card on a phone it stands all the same, in several lines, unless it is empty. */
  readonly inCards?: boolean;
}

export interface Sort {
  /** The id of a column. */
  readonly by: string;
  readonly descending: boolean;
}

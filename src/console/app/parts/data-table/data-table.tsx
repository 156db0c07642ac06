/** A table of rows that the server pages and sorts; on a phone each row is a card. */
import { Skeleton } from "@mantine/core";
import type { MouseEvent, ReactNode } from "react";
import type { Column, Sort } from "./column.ts";
import classes from "./data-table.module.css";
import { SelectAll, type Selection, SelectRow } from "./selection.tsx";
import { SortHeader } from "./sort-header.tsx";

interface DataTableProps<Row> {
  /** What the table holds, for screen readers. */
  readonly label: string;
  readonly columns: readonly Column<Row>[];
  /** Undefined while the first page loads. */
  readonly rows: readonly Row[] | undefined;
  readonly rowKey: (row: Row) => string;
  /** Shown instead of the table when there are no rows. */
  readonly empty: ReactNode;
  readonly sort?: Sort | undefined;
  readonly onSort?: (sort: Sort) => void;
  readonly selection?: Selection<Row> | undefined;
  /** What is shown is of the filters before; the new rows are on their way. */
  readonly stale?: boolean;
  /** The row that is open beside the table. */
  readonly current?: string | undefined;
  /** Rows that the skeleton has. */
  readonly expected?: number;
}

/** Put on the link of a row's first cell, it makes the whole row open it. */
export const rowLink = classes.rowLink;

export function DataTable<Row>(props: DataTableProps<Row>) {
  const {
    label,
    columns,
    rows,
    rowKey,
    empty,
    sort,
    onSort,
    selection,
    stale = false,
    current,
    expected = 12,
  } = props;
  if (rows?.length === 0) return <div className={stale ? classes.stale : undefined}>{empty}</div>;
  return (
    <div className={classes.frame}>
      <table className={classes.table} aria-label={label} aria-busy={rows === undefined || stale}>
        <thead>
          <tr>
            {selection !== undefined && (
              <th scope="col" className={classes.check}>
                <SelectAll rows={rows ?? []} rowKey={rowKey} selection={selection} />
              </th>
            )}
            {columns.map((column) => (
              <SortHeader key={column.id} column={column} sort={sort} onSort={onSort} />
            ))}
          </tr>
        </thead>
        {/* biome-ignore lint/a11y/useKeyWithClickEvents: the row's link is there for the keyboard. */}
        <tbody className={stale ? classes.stale : undefined} onClick={openRow}>
          {rows === undefined
            ? Array.from({ length: expected }, (_, index) => (
                // biome-ignore lint/suspicious/noArrayIndexKey: rows that are all alike.
                <tr key={index}>
                  {selection !== undefined && <td className={classes.check} />}
                  {columns.map(({ id, only }) => (
                    <td key={id} data-only={only}>
                      <Skeleton h={12} my={4} w={index % 3 === 0 ? "55%" : "72%"} />
                    </td>
                  ))}
                </tr>
              ))
            : rows.map((row) => {
                const key = rowKey(row);
                const selected = selection?.selected.has(key);
                return (
                  <tr
                    key={key}
                    data-selected={selected || undefined}
                    data-current={current === key || undefined}
                  >
                    {selection !== undefined && (
                      <td className={classes.check}>
                        <SelectRow row={row} rowKey={rowKey} selection={selection} />
                      </td>
                    )}
                    {columns.map((column) => (
                      <td
                        key={column.id}
                        data-align={column.align}
                        data-only={column.only}
                        data-in-cards={column.inCards}
                        data-sized={column.width !== undefined || undefined}
                        data-label={column.header}
                      >
                        {column.cell(row)}
                      </td>
                    ))}
                  </tr>
                );
              })}
        </tbody>
      </table>
    </div>
  );
}

/** What has a title lies above the row's link, to be pointed at: pressed, it is the link all the same. */
function openRow({ target, nativeEvent }: MouseEvent): void {
  if (!(target instanceof Element) || target.closest("[title]") === null) return;
  if (target.closest("a, button, code, input, label") !== null) return;
  const link = target.closest("tr")?.querySelector(`.${rowLink}`);
  // With the keys that were held, which may mean another tab.
  link?.dispatchEvent(new window.MouseEvent("click", nativeEvent));
}

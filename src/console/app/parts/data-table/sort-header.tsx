import { UnstyledButton } from "@mantine/core";
import { IconArrowDown, IconArrowUp } from "@tabler/icons-react";
import type { Column, Sort } from "./column.ts";
import classes from "./data-table.module.css";

interface SortHeaderProps<Row> {
  readonly column: Column<Row>;
  readonly sort: Sort | undefined;
  readonly onSort: ((sort: Sort) => void) | undefined;
}

export function SortHeader<Row>({ column, sort, onSort }: SortHeaderProps<Row>) {
  const { id, header, align, width, only, sort: first } = column;
  const sorted = sort?.by === id ? sort : undefined;
  const Arrow = sorted?.descending === true ? IconArrowDown : IconArrowUp;
  return (
    <th
      scope="col"
      data-align={align}
      data-only={only}
      style={width === undefined ? undefined : { width }}
      aria-sort={sorted === undefined ? undefined : sorted.descending ? "descending" : "ascending"}
    >
      {first === undefined || onSort === undefined ? (
        header
      ) : (
        <UnstyledButton
          className={classes.sort}
          data-sorted={sorted !== undefined}
          onClick={() =>
            onSort({ by: id, descending: sorted === undefined ? first === "descending" : !sorted.descending })
          }
        >
          {header}
          <Arrow size={13} aria-hidden />
        </UnstyledButton>
      )}
    </th>
  );
}

import { Checkbox } from "@mantine/core";

/** Rows that are ticked, by their keys. */
export interface Selection<Row> {
  readonly selected: ReadonlySet<string>;
  readonly onChange: (selected: ReadonlySet<string>) => void;
  /** What a row is called, for screen readers. */
  readonly nameOf: (row: Row) => string;
  /** Rows that can be ticked; without it all. */
  readonly selectable?: (row: Row) => boolean;
}

interface SelectProps<Row> {
  readonly rowKey: (row: Row) => string;
  readonly selection: Selection<Row>;
}

export function SelectAll<Row>({ rows, rowKey, selection }: SelectProps<Row> & { rows: readonly Row[] }) {
  const { selected, onChange, selectable = () => true } = selection;
  const keys = rows.filter(selectable).map(rowKey);
  const ticked = keys.filter((key) => selected.has(key)).length;
  const all = keys.length > 0 && ticked === keys.length;
  return (
    <Checkbox
      size="xs"
      aria-label="Select all on this page"
      checked={all}
      indeterminate={ticked > 0 && !all}
      disabled={keys.length === 0}
      onChange={() => onChange(new Set(all ? [] : keys))}
    />
  );
}

export function SelectRow<Row>({ row, rowKey, selection }: SelectProps<Row> & { row: Row }) {
  const { selected, onChange, nameOf, selectable = () => true } = selection;
  const key = rowKey(row);
  return (
    <Checkbox
      size="xs"
      aria-label={`Select ${nameOf(row)}`}
      checked={selected.has(key)}
      disabled={!selectable(row)}
      onChange={({ currentTarget }) => {
        const next = new Set(selected);
        if (currentTarget.checked) next.add(key);
        else next.delete(key);
        onChange(next);
      }}
    />
  );
}

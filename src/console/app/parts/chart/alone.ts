/** Where values have none beside them: no line leads there. Null where there is no such value. */
export function alone(values: ArrayLike<number | null | undefined>): number[] | null {
  const found = Array.from(values, (value, index) => ({ value, index })).filter(
    ({ value, index }) => value != null && values[index - 1] == null && values[index + 1] == null,
  );
  return found.length === 0 ? null : found.map(({ index }) => index);
}

import { Select, type SelectProps } from "@mantine/core";

interface ChoiceProps<T extends string>
  extends Omit<SelectProps, "data" | "value" | "onChange" | "label" | "multiple"> {
  readonly label: string;
  /** What each value is called, in order. */
  readonly options: Readonly<Record<T, string>>;
  readonly value: T | undefined;
  readonly onChange: (value: T | undefined) => void;
  /** Show the label above and not only to screen readers. */
  readonly labelled?: boolean;
}

/** One of a few values, or, where it can be cleared, none. */
export function Choice<T extends string>(props: ChoiceProps<T>) {
  const { label, options, value, onChange, labelled = false, ...others } = props;
  const data = Object.entries<string>(options).map(([name, word]) => ({ value: name, label: word }));
  return (
    <Select
      {...others}
      {...(labelled ? { label } : { "aria-label": label, placeholder: label })}
      data={data}
      value={value ?? null}
      onChange={(next) => onChange((next ?? undefined) as T | undefined)}
      maxDropdownHeight="min(36rem, 55vh)"
      // Whether there is more is seen without a mouse.
      scrollAreaProps={{ type: "auto" }}
      allowDeselect={others.clearable ?? false}
      comboboxProps={{ shadow: "md", radius: "md", width: "max-content", position: "bottom-start" }}
    />
  );
}

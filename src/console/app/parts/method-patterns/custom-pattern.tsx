import { Button, Group, TextInput } from "@mantine/core";
import { useState } from "react";
import { isPattern } from "./patterns.ts";

/** Types a pattern that no box stands for: a package, or a method of another server. */
export function CustomPattern({ onAdd }: { onAdd: (pattern: string) => void }) {
  const [typed, setTyped] = useState("");
  const [problem, setProblem] = useState(false);

  function add() {
    const pattern = typed.trim();
    setProblem(!isPattern(pattern));
    if (!isPattern(pattern)) return;
    onAdd(pattern);
    setTyped("");
  }

  return (
    <Group gap="xs" align="flex-start" wrap="nowrap">
      <TextInput
        flex={1}
        aria-label="Add a pattern"
        placeholder="A package: billing.v1.*"
        value={typed}
        classNames={{ input: "mono" }}
        error={problem && "Not a pattern: use SERVICE/METHOD, SERVICE/*, PACKAGE.* or *"}
        onChange={({ currentTarget }) => {
          setTyped(currentTarget.value);
          setProblem(false);
        }}
        onKeyDown={(event) => {
          if (event.key !== "Enter") return;
          // The form around it is not meant.
          event.preventDefault();
          add();
        }}
      />
      <Button variant="default" onClick={add} disabled={typed.trim() === ""}>
        Add pattern
      </Button>
    </Group>
  );
}

/** The completion script for bash 4 and newer. */
import type { Place } from "./completion-tree.ts";

export function bashScript(places: readonly Place[]): string {
  const paths = places.map(({ path }) => path).filter(Boolean);
  const values = places.flatMap(({ path, flags }) =>
    flags.flatMap(({ name, value }) => {
      if (value === "none") return [];
      const words = value === "any" ? "" : value === "file" ? "files" : `words '${value.join(" ")}'`;
      // A flag that may stand alone is followed by other flags too.
      return [`    '${path} ${name}') ${words === "" ? "return" : `_latchkey_${words}; return`} ;;`];
    }),
  );
  const words = places.map(({ path, commands, flags, takesFile }) => {
    const names = [...commands, ...flags].map(({ name }) => name).join(" ");
    return `    '${path}') _latchkey_words '${names}'${takesFile ? "; _latchkey_files" : ""} ;;`;
  });
  return `# bash completion for latchkey, made by: latchkey completion bash

_latchkey_words() {
  local IFS=$' \\t\\n'
  COMPREPLY+=($(compgen -W "$1" -- "$cur"))
}

_latchkey_files() {
  local file
  compopt -o filenames 2>/dev/null
  while IFS= read -r file; do COMPREPLY+=("$file"); done < <(compgen -f -- "$cur")
}

_latchkey() {
  local cur=\${COMP_WORDS[COMP_CWORD]} prev=\${COMP_WORDS[COMP_CWORD-1]} place= word
  COMPREPLY=()
  for word in "\${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    case "$place/$word" in
      ${paths.join(" | ")}) place=$place/$word ;;
    esac
  done
  case "$place $prev" in
${values.join("\n")}
  esac
  case "$place" in
${words.join("\n")}
  esac
}

complete -F _latchkey latchkey
`;
}

/** The completion script for zsh: a file in $fpath, or sourced after compinit. */
import type { Place } from "./completion-tree.ts";

export function zshScript(places: readonly Place[]): string {
  const paths = places.map(({ path }) => path).filter(Boolean);
  const values = places.flatMap(({ path, flags }) =>
    flags.flatMap(({ name, value }) => {
      if (value === "none") return [];
      const act = value === "any" ? "" : value === "file" ? "_files; " : `compadd -- ${value.join(" ")}; `;
      return [`    ${quote(`${path} ${name}`)}) ${act}return ;;`];
    }),
  );
  const words = places.map(({ path, commands, flags, takesFile }) => {
    const describe = (items: readonly { name: string; description: string }[]) =>
      items.map(({ name, description }) => quote(`${name}:${description}`)).join(" ");
    return [
      `    ${quote(path)})`,
      `      items=(${describe(commands)})`,
      `      flags=(${describe(flags)})`,
      ...(takesFile ? ["      _files"] : []),
      "      ;;",
    ].join("\n");
  });
  return `#compdef latchkey
# zsh completion for latchkey, made by: latchkey completion zsh

_latchkey() {
  local place= word
  local -a items flags
  for word in "\${(@)words[2,CURRENT-1]}"; do
    case "$place/$word" in
      ${paths.join(" | ")}) place=$place/$word ;;
    esac
  done
  case "$place $words[CURRENT-1]" in
${values.join("\n")}
  esac
  case "$place" in
${words.join("\n")}
  esac
  (( $#items )) && _describe -t commands command items
  _describe -t options option flags
}

if [[ $funcstack[1] == _latchkey ]]; then
  _latchkey "$@"
else
  compdef _latchkey latchkey
fi
`;
}

function quote(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

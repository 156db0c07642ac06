/** The completion script for fish. */
import type { Place } from "./completion-tree.ts";

export function fishScript(places: readonly Place[]): string {
  const paths = places.map(({ path }) => path).filter(Boolean);
  const lines = places.flatMap(({ path, commands, flags, takesFile }) => {
    const at = `complete -c latchkey -n ${quote(`__latchkey_at "${path}"`)}`;
    return [
      ...commands.map(({ name, description }) => `${at} -a ${quote(name)} -d ${quote(description)}`),
      ...flags.map(({ name, description, value }) => {
        const takes =
          value === "none"
            ? ""
            : value === "any"
              ? " -x"
              : value === "file"
                ? " -r -F"
                : ` -x -a ${quote(value.join(" "))}`;
        return `${at} -l ${name.replace(/^--/, "")}${takes} -d ${quote(description)}`;
      }),
      ...(takesFile ? [`${at} -F`] : []),
    ];
  });
  return `# fish completion for latchkey, made by: latchkey completion fish

function __latchkey_at
    set -l place ""
    for word in (commandline -opc)[2..-1]
        if contains -- "$place/$word" ${paths.join(" ")}
            set place "$place/$word"
        end
    end
    test "$place" = "$argv[1]"
end

complete -c latchkey -f
${lines.join("\n")}
`;
}

function quote(text: string): string {
  return `'${text.replaceAll("\\", "\\\\").replaceAll("'", "\\'")}'`;
}

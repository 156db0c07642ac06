import classes from "./code-block.module.css";
import { CopyButton } from "./copy-button.tsx";

interface CodeBlockProps {
  readonly code: string;
  readonly label: string;
  readonly onCopied?: () => void;
}

/** Text to copy, such as a command, as it is. */
export function CodeBlock({ code, label, onCopied }: CodeBlockProps) {
  return (
    <div className={classes.frame}>
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by the keyboard. */}
      <section className={classes.code} tabIndex={0} aria-label={label}>
        <pre>
          <code>{code}</code>
        </pre>
      </section>
      <div className={classes.copy}>
        <CopyButton value={code} label={`Copy ${label}`} onCopied={onCopied} />
      </div>
    </div>
  );
}

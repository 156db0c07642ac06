import { type ReactNode, useId } from "react";
import classes from "./panel.module.css";

interface PanelProps {
  readonly title?: string;
  /** A few words below the title. */
  readonly about?: ReactNode;
  readonly actions?: ReactNode;
  readonly children: ReactNode;
  /** Content that reaches the edges, such as a table. */
  readonly flush?: boolean;
  readonly className?: string | undefined;
}

/** A part of a page with a border of its own. */
export function Panel({ title, about, actions, children, flush = false, className }: PanelProps) {
  const id = useId();
  return (
    <section
      className={`${classes.panel} ${className ?? ""}`}
      aria-labelledby={title === undefined ? undefined : id}
    >
      {(title !== undefined || actions !== undefined) && (
        <header className={classes.head}>
          <div className={classes.words}>
            {title !== undefined && <h2 id={id}>{title}</h2>}
            {about !== undefined && <div className={classes.about}>{about}</div>}
          </div>
          {actions}
        </header>
      )}
      <div className={flush ? classes.flush : classes.body}>{children}</div>
    </section>
  );
}

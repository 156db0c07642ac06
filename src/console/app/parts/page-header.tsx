import { IconChevronLeft } from "@tabler/icons-react";
import type { ReactNode } from "react";
import classes from "./page-header.module.css";
import { useTitle } from "./use-title.ts";

interface PageHeaderProps {
  readonly title: string;
  /** Beside the title, such as a badge. */
  readonly beside?: ReactNode;
  /** A line below the title. */
  readonly children?: ReactNode;
  /** Buttons, the most important last. */
  readonly actions?: ReactNode;
  /** A link to where the page belongs. */
  readonly back?: ReactNode;
}

/** The head of every page; it names the browser's tab too. */
export function PageHeader({ title, beside, children, actions, back }: PageHeaderProps) {
  useTitle(title);
  return (
    <header className={classes.header}>
      <div className={classes.words}>
        {back !== undefined && (
          <div className={classes.back}>
            <IconChevronLeft size={14} aria-hidden />
            {back}
          </div>
        )}
        <div className={classes.title}>
          <h1>{title}</h1>
          {beside}
        </div>
        {children !== undefined && <div className={classes.text}>{children}</div>}
      </div>
      {actions !== undefined && <div className={classes.actions}>{actions}</div>}
    </header>
  );
}

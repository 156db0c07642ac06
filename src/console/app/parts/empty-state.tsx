import type { ReactNode } from "react";
import classes from "./empty-state.module.css";

interface EmptyStateProps {
  /** What there is none of. */
  readonly title: string;
  /** Why, and what to do about it. */
  readonly children?: ReactNode;
  /** The button that does it. */
  readonly action?: ReactNode;
  readonly icon?: ReactNode;
}

/** Stands where there is nothing to show. */
export function EmptyState({ title, children, action, icon }: EmptyStateProps) {
  return (
    <div className={classes.empty}>
      {icon !== undefined && <div className={classes.icon}>{icon}</div>}
      <p className={classes.title}>{title}</p>
      {children !== undefined && <div className={classes.text}>{children}</div>}
      {action !== undefined && <div className={classes.action}>{action}</div>}
    </div>
  );
}

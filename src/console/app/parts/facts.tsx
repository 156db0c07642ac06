import type { ReactNode } from "react";
import classes from "./facts.module.css";

/** Names beside what they stand for. */
export function Facts({ children, label }: { children: ReactNode; label?: string }) {
  return (
    <dl className={classes.facts} aria-label={label}>
      {children}
    </dl>
  );
}

export function Fact({ name, children }: { name: string; children: ReactNode }) {
  return (
    <>
      <dt>{name}</dt>
      <dd>{children}</dd>
    </>
  );
}

import { IconAlertTriangle, IconInfoCircle } from "@tabler/icons-react";
import type { ReactNode } from "react";
import classes from "./notice.module.css";

interface NoticeProps {
  readonly tone: "danger" | "warning" | "info";
  readonly title?: string;
  readonly children: ReactNode;
}

/** Something that has to be read. A danger is read out at once. */
export function Notice({ tone, title, children }: NoticeProps) {
  const Icon = tone === "info" ? IconInfoCircle : IconAlertTriangle;
  return (
    <div className={classes.notice} data-tone={tone} role={tone === "danger" ? "alert" : "note"}>
      <Icon size={17} stroke={1.75} aria-hidden />
      <div className={classes.text}>
        {title !== undefined && <strong>{title}</strong>}
        <div>{children}</div>
      </div>
    </div>
  );
}

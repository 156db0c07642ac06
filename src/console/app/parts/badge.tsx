/** Short words with a colour; the word alone says it all, the colour helps to find it. */
import type { ReactNode } from "react";
import { ApiKeyStatus } from "../../../gen/latchkey/v1/api_key_service_pb.js";
import type { DenialReason } from "../../../gen/latchkey/v1/verdict_pb.js";
import classes from "./badge.module.css";
import { denialHelp, denialWords, keyStatusWords } from "./words.ts";

export type Tone = "good" | "warning" | "danger" | "info" | "neutral";

interface BadgeProps {
  readonly tone?: Tone;
  readonly children: ReactNode;
  /** A dot before the word: for states. */
  readonly dot?: boolean;
  readonly title?: string;
}

export function Badge({ tone = "neutral", children, dot = false, title }: BadgeProps) {
  return (
    <span className={classes.badge} data-tone={tone} title={title}>
      {dot && <span className={classes.dot} aria-hidden />}
      {children}
    </span>
  );
}

const statusTones: Record<ApiKeyStatus, Tone> = {
  [ApiKeyStatus.UNSPECIFIED]: "neutral",
  [ApiKeyStatus.ACTIVE]: "good",
  [ApiKeyStatus.EXPIRED]: "warning",
  [ApiKeyStatus.REVOKED]: "danger",
};

export function KeyStatusBadge({ status }: { status: ApiKeyStatus }) {
  return (
    <Badge tone={statusTones[status]} dot>
      {keyStatusWords[status]}
    </Badge>
  );
}

/** An RPC's final code, e.g. "not_found". */
export function CodeBadge({ code }: { code: string }) {
  return (
    <Badge tone={codeTone(code)}>
      <span className="mono">{code}</span>
    </Badge>
  );
}

export function DenialBadge({ reason }: { reason: DenialReason }) {
  return (
    <Badge tone="warning" title={denialHelp[reason]}>
      {denialWords[reason]}
    </Badge>
  );
}

/** The caller's mistakes are warnings, the server's are dangers. */
function codeTone(code: string): Tone {
  if (code === "ok") return "good";
  if (["internal", "unknown", "data_loss", "unavailable", "deadline_exceeded"].includes(code))
    return "danger";
  return code === "canceled" ? "neutral" : "warning";
}

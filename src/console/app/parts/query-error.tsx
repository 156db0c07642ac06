import { Button } from "@mantine/core";
import { IconAlertTriangle } from "@tabler/icons-react";
import { errorText } from "./error-text.ts";
import classes from "./query-error.module.css";

/** Says why something could not be loaded, and offers to try again. */
export function QueryError({ error, onRetry }: { error: unknown; onRetry: () => void }) {
  return (
    <div className={classes.error} role="alert">
      <IconAlertTriangle size={18} aria-hidden />
      <span className={classes.text}>{errorText(error)}</span>
      <Button variant="default" size="xs" onClick={onRetry}>
        Try again
      </Button>
    </div>
  );
}

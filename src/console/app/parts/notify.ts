import { notifications } from "@mantine/notifications";
import { errorText } from "./error-text.ts";

/** Says in a corner that something was done. */
export function notifyDone(message: string): void {
  notifications.show({ message, color: "verdigris", autoClose: 5_000 });
}

/** Says in a corner what failed and why; it stays until it is closed. */
export function notifyError(title: string, error: unknown): void {
  notifications.show({ title, message: errorText(error), color: "red", autoClose: false });
}

import { useNavigate } from "@tanstack/react-router";
import { notifyError } from "../parts/notify.ts";
import { signOut } from "./client.ts";

export function useSignOut(): () => Promise<void> {
  const navigate = useNavigate();
  return async () => {
    await signOut().catch((error: unknown) =>
      notifyError("The server was not told that you signed out", error),
    );
    await navigate({ to: "/sign-in", search: {} });
  };
}

import { Text, Title } from "@mantine/core";
import { useNavigate, useSearch } from "@tanstack/react-router";
import icon from "../../icon.svg";
import { useTitle } from "../../parts/use-title.ts";
import { TokenForm } from "../../session/token-form.tsx";
import classes from "./sign-in.module.css";

export function SignIn() {
  useTitle("Sign in");
  const { next } = useSearch({ from: "/sign-in" });
  const navigate = useNavigate();
  // Only a path of the console: a link must not lead elsewhere from here.
  const target = next !== undefined && /^\/(?![/\\])/.test(next) ? next : "/";
  return (
    <main className={classes.page}>
      <section className={classes.card}>
        <img src={icon} alt="" width={40} height={40} className={classes.icon} />
        <Title order={1}>Sign in to Latchkey</Title>
        <Text c="dimmed" size="sm" mb="lg">
          <span className="mono">{window.location.host}</span>
        </Text>
        <TokenForm label="API key token" onDone={() => void navigate({ to: target, replace: true })} />
        <Text c="dimmed" size="xs" mt="lg">
          With a staff user's key you see everything; with any other, your own keys and calls. The token is
          exchanged for a session and not kept in this page. In development the secret key that the server
          printed signs in too. No key yet? <code>latchkey bootstrap</code> makes the first one.
        </Text>
      </section>
    </main>
  );
}

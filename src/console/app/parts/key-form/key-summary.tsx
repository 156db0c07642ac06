/** What a key will be allowed, in words. */
import { formatDay } from "../format.ts";
import { useUsersById } from "../names.ts";
import { expiryOf, type KeyDraft } from "./draft.ts";
import classes from "./key-summary.module.css";

export function KeySummary({ draft }: { draft: KeyDraft }) {
  const id = draft.userId === undefined ? undefined : BigInt(draft.userId);
  const users = useUsersById(id === undefined ? [] : [id]);
  const expiresAt = expiryOf(draft);
  const { limited, methods, addresses } = draft;
  const facts: readonly [string, string][] = [
    ["Signs in as", id === undefined ? "nobody yet" : (users.get(id)?.username ?? `user ${id}`)],
    [
      "May call",
      !limited ? "whatever the user may call" : methods.length === 0 ? "nothing yet" : methods.join(", "),
    ],
    ["From", addresses.length === 0 ? "anywhere" : addresses.join(", ")],
    [
      "Until",
      draft.expiry === "never"
        ? "it is revoked"
        : expiresAt === undefined
          ? "not chosen yet"
          : formatDay(expiresAt),
    ],
  ];
  return (
    <dl className={classes.summary} aria-label="What this key may do">
      {facts.map(([name, value]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  );
}

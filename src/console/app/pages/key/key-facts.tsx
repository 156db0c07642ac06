import { Link } from "@tanstack/react-router";
import type { ReactNode } from "react";
import { type ApiKey, ApiKeyStatus } from "../../../../gen/latchkey/v1/api_key_service_pb.js";
import { CopyButton } from "../../parts/copy-button.tsx";
import { Expiry } from "../../parts/expiry.tsx";
import { formatCount } from "../../parts/format.ts";
import { useKeysById, useUsersById } from "../../parts/names.ts";
import { Panel } from "../../parts/panel.tsx";
import { Time } from "../../parts/time.tsx";
import { keyTypeWords, revocationWords } from "../../parts/words.ts";
import { useMe } from "../../session/state.ts";
import classes from "./key.module.css";

/** All that the record holds. */
export function KeyFacts({ apiKey }: { apiKey: ApiKey }) {
  const { isStaff } = useMe();
  const users = useUsersById([apiKey.createdBy]);
  const keys = useKeysById([apiKey.rotatedFrom, apiKey.rotatedTo]);
  const createdBy =
    apiKey.createdBy === 0n
      ? "the bootstrap command"
      : (users.get(apiKey.createdBy)?.username ?? (isStaff ? `user ${apiKey.createdBy}` : "staff"));
  const keyLink = (id: string) => (
    <Link to="/keys/$id" params={{ id }}>
      {keys.get(id)?.name ?? id}
    </Link>
  );
  return (
    <Panel title="Details">
      <dl className={classes.facts}>
        {apiKey.status === ApiKeyStatus.REVOKED && (
          <>
            <Fact name="Revoked">
              <Time value={apiKey.revokedAt} as="full" />
            </Fact>
            <Fact name="Why">{revocationWords[apiKey.revocationReason]}</Fact>
            {apiKey.revocationNote !== "" && <Fact name="Note">{apiKey.revocationNote}</Fact>}
          </>
        )}
        <Fact name="Start of the token">
          {apiKey.start === "" ? "Not known" : <code>{apiKey.start}…</code>}
          {apiKey.imported && <span className="dim">imported</span>}
        </Fact>
        <Fact name="User">
          {isStaff ? (
            <Link to="/keys" search={{ user: String(apiKey.userId) }}>
              {apiKey.username}
            </Link>
          ) : (
            apiKey.username
          )}
        </Fact>
        <Fact name="Type">{keyTypeWords[apiKey.type]}</Fact>
        <Fact name="Requests">
          <span className="num">{formatCount(apiKey.requestCount)}</span>
        </Fact>
        <Fact name="Last used">
          <Time value={apiKey.lastUsedAt} none="Never" />
        </Fact>
        <Fact name="Expires">
          <Expiry of={apiKey} />
        </Fact>
        <Fact name="Allowed methods">
          <Patterns patterns={apiKey.allowedMethods} none="Whatever the user may call" />
        </Fact>
        <Fact name="Allowed addresses">
          <Patterns patterns={apiKey.allowedAddresses} none="From anywhere" />
        </Fact>
        {apiKey.canVerify && <Fact name="Verdicts">May call VerifyApiKey</Fact>}
        {apiKey.rotatedFrom !== "" && <Fact name="Replaced">{keyLink(apiKey.rotatedFrom)}</Fact>}
        {apiKey.rotatedTo !== "" && <Fact name="Replaced by">{keyLink(apiKey.rotatedTo)}</Fact>}
        <Fact name="Created">
          <Time value={apiKey.createdAt} as="full" /> <span className="dim">by {createdBy}</span>
        </Fact>
        <Fact name="Changed">
          <Time value={apiKey.updatedAt} />
          {isStaff && (
            <Link to="/audit" search={{ key: apiKey.id }}>
              Audit log
            </Link>
          )}
        </Fact>
        <Fact name="Id">
          <code>{apiKey.id}</code>
          <CopyButton value={apiKey.id} label="Copy the id" />
        </Fact>
      </dl>
    </Panel>
  );
}

function Fact({ name, children }: { name: string; children: ReactNode }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{children}</dd>
    </div>
  );
}

function Patterns({ patterns, none }: { patterns: readonly string[]; none: string }) {
  if (patterns.length === 0) return none;
  return (
    <ul className={classes.patterns}>
      {patterns.map((pattern) => (
        <li key={pattern}>
          <code>{pattern}</code>
        </li>
      ))}
    </ul>
  );
}

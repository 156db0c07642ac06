/** Asks why, says what it breaks, and ends keys for good. */
import { useMutation, useQuery } from "@connectrpc/connect-query";
import { Button, Group, Modal, Select, Stack, Textarea } from "@mantine/core";
import { useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { type ApiKey, ApiKeyService, RevocationReason } from "../../../gen/latchkey/v1/api_key_service_pb.js";
import { StatsService } from "../../../gen/latchkey/v1/stats_service_pb.js";
import { errorText } from "./error-text.ts";
import { formatCount, formatCountOf } from "./format.ts";
import { Notice } from "./notice.tsx";
import { notifyDone } from "./notify.ts";
import { rangeUpTo } from "./range.ts";
import classes from "./revoke-dialog.module.css";
import { Time } from "./time.tsx";
import { useNow } from "./use-now.ts";
import { revocationWords } from "./words.ts";

const reasons = [
  RevocationReason.UNUSED,
  RevocationReason.ROTATED,
  RevocationReason.COMPROMISED,
  RevocationReason.USER_ENDED,
].map((reason) => ({ value: String(reason), label: revocationWords[reason] }));

interface RevocationReasonSelectProps {
  readonly value: RevocationReason;
  readonly onChange: (reason: RevocationReason) => void;
}

/** Why; or no reason given. */
export function RevocationReasonSelect({ value, onChange }: RevocationReasonSelectProps) {
  return (
    <Select
      label="Reason"
      placeholder="No reason given"
      data={reasons}
      value={value === RevocationReason.UNSPECIFIED ? null : String(value)}
      onChange={(next) => onChange(Number(next ?? RevocationReason.UNSPECIFIED))}
      clearable
      data-autofocus
    />
  );
}

interface RevokeDialogProps {
  /** The keys to revoke; undefined while the dialog is closed. */
  readonly keys: readonly ApiKey[] | undefined;
  readonly onClose: () => void;
  readonly onDone?: () => void;
}

export function RevokeDialog({ keys, onClose, onDone }: RevokeDialogProps) {
  const count = keys?.length ?? 0;
  return (
    <Modal
      opened={keys !== undefined}
      onClose={onClose}
      title={count === 1 ? `Revoke “${keys?.[0]?.name}”?` : `Revoke ${formatCount(count)} keys?`}
    >
      {keys !== undefined && <RevokeForm keys={keys} onClose={onClose} onDone={onDone} />}
    </Modal>
  );
}

type RevokeFormProps = { keys: readonly ApiKey[]; onClose: () => void; onDone: (() => void) | undefined };

function RevokeForm({ keys, onClose, onDone }: RevokeFormProps) {
  const [reason, setReason] = useState(
    keys.every(({ rotatedTo }) => rotatedTo !== "") ? RevocationReason.ROTATED : RevocationReason.UNSPECIFIED,
  );
  const [note, setNote] = useState("");
  const client = useQueryClient();
  const revoke = useMutation(ApiKeyService.method.batchRevokeApiKeys);

  async function submit() {
    const { revokedCount } = await revoke.mutateAsync({
      ids: keys.map(({ id }) => id),
      reason,
      note,
    });
    notifyDone(`Revoked: ${formatCountOf(revokedCount, "key")}.`);
    onClose();
    onDone?.();
    await client.invalidateQueries();
  }

  return (
    <form
      onSubmit={(event) => {
        event.preventDefault();
        submit().catch(() => {});
      }}
    >
      <Stack gap="md">
        <Notice tone="danger" title="This cannot be undone.">
          <p>
            Calls with {keys.length === 1 ? <ThisKey of={keys[0]!} /> : "these keys"} are refused within about
            two seconds; open streams and sessions end.
          </p>
          {keys.length === 1 ? <RecentUse of={keys[0]!} /> : <Names keys={keys} />}
        </Notice>
        <RevocationReasonSelect value={reason} onChange={setReason} />
        <Textarea
          label="Note"
          description="For those who find a client that no longer works."
          value={note}
          maxLength={1_000}
          autosize
          minRows={2}
          onChange={({ currentTarget }) => setNote(currentTarget.value)}
        />
        {revoke.error !== null && <Notice tone="danger">{errorText(revoke.error)}</Notice>}
        <Group justify="flex-end" gap="xs">
          <Button variant="default" onClick={onClose}>
            Cancel
          </Button>
          <Button color="red" type="submit" loading={revoke.isPending}>
            Revoke {keys.length === 1 ? "key" : `${formatCount(keys.length)} keys`}
          </Button>
        </Group>
      </Stack>
    </form>
  );
}

/** With the start of its token: a key and the one that replaced it have the same name. */
function ThisKey({ of: { start } }: { of: ApiKey }) {
  return start === "" ? (
    "this key"
  ) : (
    <>
      this key (<code>{start}…</code>)
    </>
  );
}

/** What would break: whether somebody uses the key now. */
function RecentUse({ of: key }: { of: ApiKey }) {
  const now = useNow();
  // To the minute, so that the query stays the same while the dialog is open.
  const end = Math.ceil(now / 60_000) * 60_000;
  const { data } = useQuery(StatsService.method.getOverview, {
    filter: { apiKeyId: key.id },
    ...rangeUpTo("24h", end),
  });
  const requests = data?.stats?.requests ?? 0n;
  if (key.lastUsedAt === undefined) return <p>It has never been used.</p>;
  return (
    <p>
      It was last used <Time value={key.lastUsedAt} />
      {requests > 0n && (
        <>
          {" "}
          and made <strong>{formatCountOf(requests, "request")} in the last 24 hours</strong>
        </>
      )}
      .
    </p>
  );
}

function Names({ keys }: { keys: readonly ApiKey[] }) {
  const shown = keys.slice(0, 5);
  return (
    <ul className={classes.names}>
      {shown.map(({ id, name, username, lastUsedAt }) => (
        <li key={id}>
          {name} <span className="dim">of {username}, last used </span>
          <Time value={lastUsedAt} none="never" />
        </li>
      ))}
      {keys.length > shown.length && (
        <li className="dim">and {formatCount(keys.length - shown.length)} more</li>
      )}
    </ul>
  );
}

import { useMutation } from "@connectrpc/connect-query";
import { Checkbox, Modal, Textarea } from "@mantine/core";
import { useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { ApiKeyService, RevocationReason } from "../../../../gen/latchkey/v1/api_key_service_pb.js";
import { ConfirmForm } from "../../parts/confirm-form.tsx";
import { formatCount, formatCountOf } from "../../parts/format.ts";
import { Notice } from "../../parts/notice.tsx";
import { notifyDone } from "../../parts/notify.ts";
import { RevocationReasonSelect } from "../../parts/revoke-dialog.tsx";
import { useMe } from "../../session/state.ts";
import type { UserDialogProps } from "./edit-dialog.tsx";

export function RevokeAllDialog({ user, opened, onClose }: UserDialogProps) {
  const me = useMe();
  const isSelf = me.userId === user.id;
  const [reason, setReason] = useState(RevocationReason.UNSPECIFIED);
  const [note, setNote] = useState("");
  const [keepOwn, setKeepOwn] = useState(true);
  const client = useQueryClient();
  const revoke = useMutation(ApiKeyService.method.revokeAllApiKeys);

  async function confirm() {
    const { revokedCount } = await revoke.mutateAsync({
      userId: user.id,
      reason,
      note,
      keepOwn: isSelf && keepOwn,
    });
    notifyDone(`Revoked: ${formatCountOf(revokedCount, "key")} of ${user.username}.`);
    onClose();
    await client.invalidateQueries();
  }

  return (
    <Modal opened={opened} onClose={onClose} title={`Revoke all keys of ${user.username}?`}>
      <ConfirmForm action="Revoke all" isDanger onConfirm={confirm} onCancel={onClose}>
        <Notice tone="danger" title="This cannot be undone.">
          Calls with any of their keys, {formatCount(user.activeApiKeyCount)} of them active, are refused
          within about two seconds; open streams and sessions end.
        </Notice>
        <RevocationReasonSelect value={reason} onChange={setReason} />
        <Textarea
          label="Note"
          value={note}
          maxLength={1_000}
          autosize
          minRows={2}
          onChange={({ currentTarget }) => setNote(currentTarget.value)}
        />
        {isSelf && (
          <Checkbox
            label="Keep the key that I am signed in with"
            checked={keepOwn}
            onChange={({ currentTarget }) => setKeepOwn(currentTarget.checked)}
          />
        )}
      </ConfirmForm>
    </Modal>
  );
}

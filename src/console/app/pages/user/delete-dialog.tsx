import { useMutation } from "@connectrpc/connect-query";
import { Modal, TextInput } from "@mantine/core";
import { useQueryClient } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";
import { useState } from "react";
import { UserAdminService } from "../../../../gen/latchkey/v1/user_admin_service_pb.js";
import { ConfirmForm } from "../../parts/confirm-form.tsx";
import { formatCount } from "../../parts/format.ts";
import { Notice } from "../../parts/notice.tsx";
import { notifyDone } from "../../parts/notify.ts";
import type { UserDialogProps } from "./edit-dialog.tsx";

export function DeleteDialog({ user, opened, onClose }: UserDialogProps) {
  const [typed, setTyped] = useState("");
  const navigate = useNavigate();
  const client = useQueryClient();
  const remove = useMutation(UserAdminService.method.deleteUser);

  async function confirm() {
    await remove.mutateAsync({ id: user.id });
    notifyDone(`${user.username} was deleted.`);
    await navigate({ to: "/users" });
    await client.invalidateQueries();
  }

  return (
    <Modal opened={opened} onClose={onClose} title={`Delete ${user.username}?`}>
      <ConfirmForm
        action="Delete user"
        isDanger
        isReady={typed === user.username}
        onConfirm={confirm}
        onCancel={onClose}
      >
        <Notice tone="danger" title="This cannot be undone.">
          All of their keys go with them, {formatCount(user.activeApiKeyCount)} of them active. Their rows in
          the request log and the audit log stay. To lock them out for a while, disable them instead.
        </Notice>
        <TextInput
          label={`To confirm, type ${user.username}`}
          value={typed}
          spellCheck={false}
          autoComplete="off"
          data-autofocus
          onChange={({ currentTarget }) => setTyped(currentTarget.value)}
        />
      </ConfirmForm>
    </Modal>
  );
}

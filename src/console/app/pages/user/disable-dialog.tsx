import { useMutation } from "@connectrpc/connect-query";
import { Modal } from "@mantine/core";
import { useQueryClient } from "@tanstack/react-query";
import { useRef } from "react";
import { UserAdminService } from "../../../../gen/latchkey/v1/user_admin_service_pb.js";
import { ConfirmForm } from "../../parts/confirm-form.tsx";
import { formatCount, formatCountOf } from "../../parts/format.ts";
import { Notice } from "../../parts/notice.tsx";
import { notifyDone } from "../../parts/notify.ts";
import type { UserDialogProps } from "./edit-dialog.tsx";

/** Disables a user, or enables one who is disabled. */
export function DisableDialog({ user: current, opened, onClose }: UserDialogProps) {
  // While it fades away it does not offer the opposite.
  const asked = useRef(current);
  if (opened) asked.current = current;
  const user = asked.current;
  const client = useQueryClient();
  const update = useMutation(UserAdminService.method.updateUser);
  const verb = user.isActive ? "Disable" : "Enable";

  async function confirm() {
    const { endedApiKeyCount } = await update.mutateAsync({
      user: { id: user.id, isActive: !user.isActive },
      updateMask: { paths: ["is_active"] },
    });
    onClose();
    await client.invalidateQueries();
    const ended =
      endedApiKeyCount === 0 ? "" : ` Refused from now on: ${formatCountOf(endedApiKeyCount, "key")}.`;
    notifyDone(`${user.username} was ${user.isActive ? "disabled" : "enabled"}.${ended}`);
  }

  return (
    <Modal opened={opened} onClose={onClose} title={`${verb} ${user.username}?`}>
      <ConfirmForm action={verb} isDanger={user.isActive} onConfirm={confirm} onCancel={onClose}>
        {user.isActive ? (
          <Notice tone="warning" title="They are signed out at once.">
            Their keys, {formatCount(user.activeApiKeyCount)} of them active, are refused until they are
            enabled again; open streams and sessions end.
          </Notice>
        ) : (
          <p>Their keys that are neither revoked nor expired work again.</p>
        )}
      </ConfirmForm>
    </Modal>
  );
}

import { useMutation } from "@connectrpc/connect-query";
import { Modal } from "@mantine/core";
import { useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { type User, UserAdminService } from "../../../../gen/latchkey/v1/user_admin_service_pb.js";
import { ConfirmForm } from "../../parts/confirm-form.tsx";
import { notifyDone } from "../../parts/notify.ts";
import { type UserDraft, UserFields } from "../../parts/user-fields.tsx";

export interface UserDialogProps {
  readonly user: User;
  readonly opened: boolean;
  readonly onClose: () => void;
}

export function EditDialog({ user, opened, onClose }: UserDialogProps) {
  return (
    <Modal opened={opened} onClose={onClose} title={`Edit ${user.username}`}>
      <EditForm user={user} onClose={onClose} />
    </Modal>
  );
}

function EditForm({ user, onClose }: { user: User; onClose: () => void }) {
  const [before] = useState<UserDraft>({
    username: user.username,
    email: user.email,
    bio: user.bio,
    isStaff: user.isStaff,
  });
  const [draft, setDraft] = useState(before);
  const client = useQueryClient();
  const update = useMutation(UserAdminService.method.updateUser);
  const paths = [
    ...(draft.username.trim() === before.username ? [] : ["username"]),
    ...(draft.email.trim() === before.email ? [] : ["email"]),
    ...(draft.bio === before.bio ? [] : ["bio"]),
    ...(draft.isStaff === before.isStaff ? [] : ["is_staff"]),
  ];

  async function submit() {
    await update.mutateAsync({
      user: { ...draft, id: user.id, username: draft.username.trim(), email: draft.email.trim() },
      updateMask: { paths },
    });
    await client.invalidateQueries();
    notifyDone("The user was changed.");
    onClose();
  }

  return (
    <ConfirmForm action="Save changes" isReady={paths.length > 0} onConfirm={submit} onCancel={onClose}>
      <UserFields draft={draft} onChange={setDraft} />
    </ConfirmForm>
  );
}

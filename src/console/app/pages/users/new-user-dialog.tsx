import { useMutation } from "@connectrpc/connect-query";
import { Modal } from "@mantine/core";
import { useQueryClient } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";
import { useState } from "react";
import { UserAdminService } from "../../../../gen/latchkey/v1/user_admin_service_pb.js";
import { ConfirmForm } from "../../parts/confirm-form.tsx";
import { notifyDone } from "../../parts/notify.ts";
import { type UserDraft, UserFields } from "../../parts/user-fields.tsx";

export function NewUserDialog({ opened, onClose }: { opened: boolean; onClose: () => void }) {
  return (
    <Modal opened={opened} onClose={onClose} title="Create a user">
      <NewUserForm onClose={onClose} />
    </Modal>
  );
}

const blank: UserDraft = { username: "", email: "", bio: "", isStaff: false };

function NewUserForm({ onClose }: { onClose: () => void }) {
  const [draft, setDraft] = useState(blank);
  const navigate = useNavigate();
  const client = useQueryClient();
  const create = useMutation(UserAdminService.method.createUser);

  async function submit() {
    const { user } = await create.mutateAsync({
      ...draft,
      username: draft.username.trim(),
      email: draft.email.trim(),
    });
    if (user === undefined) return;
    await client.invalidateQueries();
    notifyDone(`${user.username} was created.`);
    onClose();
    await navigate({ to: "/users/$id", params: { id: String(user.id) } });
  }

  return (
    <ConfirmForm action="Create user" onConfirm={submit} onCancel={onClose}>
      <UserFields draft={draft} onChange={setDraft} />
    </ConfirmForm>
  );
}

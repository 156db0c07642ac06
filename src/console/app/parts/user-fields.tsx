import { Checkbox, Stack, Textarea, TextInput } from "@mantine/core";

export interface UserDraft {
  readonly username: string;
  readonly email: string;
  readonly bio: string;
  readonly isStaff: boolean;
}

interface UserFieldsProps {
  readonly draft: UserDraft;
  readonly onChange: (draft: UserDraft) => void;
}

/** The fields of a user, for making one and for changing it. */
export function UserFields({ draft, onChange }: UserFieldsProps) {
  const change = (part: Partial<UserDraft>) => onChange({ ...draft, ...part });
  return (
    <Stack gap="md">
      <TextInput
        label="Username"
        description="Letters, digits and @ . + - _"
        value={draft.username}
        maxLength={150}
        required
        data-autofocus
        spellCheck={false}
        onChange={({ currentTarget }) => change({ username: currentTarget.value })}
      />
      <TextInput
        type="email"
        label="Email"
        value={draft.email}
        onChange={({ currentTarget }) => change({ email: currentTarget.value })}
      />
      <Textarea
        label="Bio"
        value={draft.bio}
        maxLength={2_000}
        autosize
        minRows={2}
        onChange={({ currentTarget }) => change({ bio: currentTarget.value })}
      />
      <Checkbox
        label="Staff"
        description="Sees and manages everyone's keys, calls and users."
        checked={draft.isStaff}
        onChange={({ currentTarget }) => change({ isStaff: currentTarget.checked })}
      />
    </Stack>
  );
}

/** The fields of a key, for making one and for changing it. */
import { Checkbox, Radio, Select, Stack, TagsInput, Textarea, TextInput } from "@mantine/core";
import { ApiKeyType } from "../../../../gen/latchkey/v1/api_key_service_pb.js";
import { useMe } from "../../session/state.ts";
import { MethodPicker } from "../method-patterns/method-picker.tsx";
import { UserSelect } from "../user-select.tsx";
import { keyTypeWords } from "../words.ts";
import type { ExpiryChoice, KeyDraft, problemsOf } from "./draft.ts";
import classes from "./key-fields.module.css";

const types = [
  ApiKeyType.SERVICE,
  ApiKeyType.CLI,
  ApiKeyType.WEBHOOK,
  ApiKeyType.INTERNAL,
  ApiKeyType.DEVELOPMENT,
].map((type) => ({ value: String(type), label: keyTypeWords[type] }));

const expiryOptions: readonly { value: ExpiryChoice; label: string }[] = [
  { value: "7", label: "7 days" },
  { value: "30", label: "30 days" },
  { value: "90", label: "90 days" },
  { value: "365", label: "1 year" },
  { value: "never", label: "Never" },
  { value: "date", label: "At a time…" },
];

interface KeyFieldsProps {
  readonly draft: KeyDraft;
  readonly onChange: (draft: KeyDraft) => void;
  readonly problems: ReturnType<typeof problemsOf>;
  /** Of a key that is there already the user stays. */
  readonly withUser: boolean;
}

export function KeyFields({ draft, onChange, problems, withUser }: KeyFieldsProps) {
  const { isStaff } = useMe();
  const change = (part: Partial<KeyDraft>) => onChange({ ...draft, ...part });
  return (
    <Stack gap="lg">
      <TextInput
        label="Name"
        description="What the key is for. It need not be unique."
        value={draft.name}
        maxLength={100}
        required
        data-autofocus
        error={problems.name}
        onChange={({ currentTarget }) => change({ name: currentTarget.value })}
      />
      <Textarea
        label="Description"
        value={draft.description}
        maxLength={1_000}
        autosize
        minRows={1}
        onChange={({ currentTarget }) => change({ description: currentTarget.value })}
      />
      <div className={classes.pair}>
        {withUser && isStaff && (
          <UserSelect
            label="User"
            labelled
            description="Whom the key signs in."
            value={draft.userId}
            onChange={(userId) => change({ userId })}
            required
            error={problems.userId}
          />
        )}
        <Select
          label="Type"
          description="To tell keys apart; it grants nothing."
          data={types}
          value={String(draft.type)}
          allowDeselect={false}
          onChange={(type) => change({ type: Number(type) })}
        />
      </div>
      <Radio.Group
        label="Expires"
        value={draft.expiry}
        onChange={(expiry) => change({ expiry: expiry as ExpiryChoice })}
      >
        <div className={classes.presets}>
          {expiryOptions.map(({ value, label }) => (
            <Radio key={value} value={value} label={label} />
          ))}
        </div>
      </Radio.Group>
      {draft.expiry === "date" && (
        <TextInput
          type="datetime-local"
          label="Expires at"
          value={draft.date}
          error={problems.date}
          className={classes.date ?? ""}
          onChange={({ currentTarget }) => change({ date: currentTarget.value })}
        />
      )}
      <Radio.Group
        label="Allowed methods"
        value={draft.limited ? "some" : "all"}
        onChange={(which) => change({ limited: which === "some" })}
        error={problems.methods}
      >
        <Stack gap="xs" mt={4}>
          <Radio value="all" label="Whatever the user may call" />
          <Radio value="some" label="Only these" />
        </Stack>
      </Radio.Group>
      {draft.limited && <MethodPicker value={draft.methods} onChange={(methods) => change({ methods })} />}
      <TagsInput
        label="Allowed addresses"
        description="IPv4 or IPv6 addresses or CIDR blocks, like 203.0.113.0/24; Enter adds one. Empty: from anywhere."
        value={[...draft.addresses]}
        onChange={(addresses) => change({ addresses })}
        splitChars={[",", " "]}
        acceptValueOnBlur
        maxTags={100}
        placeholder={draft.addresses.length === 0 ? "From anywhere" : ""}
      />
      {isStaff && (
        <Checkbox
          label="May ask for verdicts"
          description="For gateways: it may call VerifyApiKey though its user is not staff."
          checked={draft.canVerify}
          onChange={({ currentTarget }) => change({ canVerify: currentTarget.checked })}
        />
      )}
    </Stack>
  );
}

import { useMutation } from "@connectrpc/connect-query";
import { Button, Group, Stack } from "@mantine/core";
import { useQueryClient } from "@tanstack/react-query";
import { Link, useSearch } from "@tanstack/react-router";
import { type FormEvent, useRef, useState } from "react";
import { ApiKeyService, type CreateApiKeyResponse } from "../../../../gen/latchkey/v1/api_key_service_pb.js";
import { isRefusal } from "../../parts/error-text.ts";
import { fieldsOf, type KeyDraft, newDraft, problemsOf, refusalOf } from "../../parts/key-form/draft.ts";
import classes from "../../parts/key-form/form-page.module.css";
import { KeyFields } from "../../parts/key-form/key-fields.tsx";
import { KeySummary } from "../../parts/key-form/key-summary.tsx";
import { LinkButton } from "../../parts/link-button.tsx";
import { Notice } from "../../parts/notice.tsx";
import { PageHeader } from "../../parts/page-header.tsx";
import { Panel } from "../../parts/panel.tsx";
import { useTokenGuard } from "../../parts/token-guard.tsx";
import { TokenOnce } from "../../parts/token-once.tsx";
import { useMe } from "../../session/state.ts";

export function NewKeyPage() {
  const me = useMe();
  const { user } = useSearch({ from: "/in/keys/new" });
  const blank = () => newDraft(user === undefined ? me.userId : BigInt(user));
  const [draft, setDraft] = useState<KeyDraft>(blank);
  const [made, setMade] = useState<CreateApiKeyResponse>();
  if (made?.apiKey !== undefined) {
    return (
      <Made
        made={made}
        onAnother={() => {
          setMade(undefined);
          setDraft(blank());
        }}
      />
    );
  }
  return <NewKeyForm draft={draft} onChange={setDraft} onMade={setMade} />;
}

const back = <Link to="/keys">API keys</Link>;

interface NewKeyFormProps {
  readonly draft: KeyDraft;
  readonly onChange: (draft: KeyDraft) => void;
  readonly onMade: (made: CreateApiKeyResponse) => void;
}

function NewKeyForm({ draft, onChange, onMade }: NewKeyFormProps) {
  const [tried, setTried] = useState(false);
  const form = useRef<HTMLFormElement>(null);
  // Sent again, the same request makes no second key.
  const requestId = useRef(crypto.randomUUID());
  const client = useQueryClient();
  const create = useMutation(ApiKeyService.method.createApiKey);
  const problems = problemsOf(draft);

  async function submit(event: FormEvent) {
    event.preventDefault();
    setTried(true);
    if (Object.keys(problems).length > 0) {
      requestAnimationFrame(() => form.current?.querySelector<HTMLElement>('[aria-invalid="true"]')?.focus());
      return;
    }
    try {
      const answer = await create.mutateAsync({
        ...fieldsOf(draft),
        userId: BigInt(draft.userId ?? 0),
        requestId: requestId.current,
      });
      onMade(answer);
      await client.invalidateQueries();
    } catch (error) {
      // Shown beside the form. What was refused was not made, so that the next one is another request.
      if (isRefusal(error)) requestId.current = crypto.randomUUID();
    }
  }

  return (
    <>
      <PageHeader title="Create an API key" back={back} />
      <form ref={form} onSubmit={submit} noValidate className={classes.page}>
        <Panel>
          <KeyFields draft={draft} onChange={onChange} problems={tried ? problems : {}} withUser />
        </Panel>
        <div className={classes.side}>
          <Panel title="This key">
            <Stack gap="lg">
              <KeySummary draft={draft} />
              {create.error !== null && <Notice tone="danger">{refusalOf(create.error, draft)}</Notice>}
              <Group gap="xs">
                <Button type="submit" loading={create.isPending}>
                  Create API key
                </Button>
                <LinkButton to="/keys" variant="default">
                  Cancel
                </LinkButton>
              </Group>
            </Stack>
          </Panel>
        </div>
      </form>
    </>
  );
}

function Made({ made, onAnother }: { made: CreateApiKeyResponse; onAnother: () => void }) {
  const { apiKey, token, tokenWithheldReason } = made;
  const guard = useTokenGuard(token);
  if (apiKey === undefined) return null;
  return (
    <>
      <PageHeader title={`“${apiKey.name}” is ready`} back={back} />
      <div>
        <div className={classes.made}>
          <Panel title="Its token">
            <TokenOnce
              apiKey={apiKey}
              token={token}
              withheldReason={tokenWithheldReason}
              onCopied={guard.keep}
            />
          </Panel>
          <Group gap="xs" mt="md">
            <LinkButton to="/keys/$id" params={{ id: apiKey.id }} onClick={guard.keep}>
              I have copied it: to the key
            </LinkButton>
            <Button variant="default" onClick={() => guard.leave(onAnother)}>
              Create another
            </Button>
          </Group>
        </div>
      </div>
      {guard.question}
    </>
  );
}

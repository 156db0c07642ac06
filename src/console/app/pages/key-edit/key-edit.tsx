/** Changes a key that is there. */
import { useMutation, useQuery } from "@connectrpc/connect-query";
import { Button, Group, Skeleton, Stack } from "@mantine/core";
import { useQueryClient } from "@tanstack/react-query";
import { Link, useNavigate, useParams } from "@tanstack/react-router";
import { type FormEvent, useState } from "react";
import { type ApiKey, ApiKeyService } from "../../../../gen/latchkey/v1/api_key_service_pb.js";
import { changedPaths, draftOf, fieldsOf, problemsOf, refusalOf } from "../../parts/key-form/draft.ts";
import classes from "../../parts/key-form/form-page.module.css";
import { KeyFields } from "../../parts/key-form/key-fields.tsx";
import { KeySummary } from "../../parts/key-form/key-summary.tsx";
import { LinkButton } from "../../parts/link-button.tsx";
import { Notice } from "../../parts/notice.tsx";
import { notifyDone } from "../../parts/notify.ts";
import { PageHeader } from "../../parts/page-header.tsx";
import { Panel } from "../../parts/panel.tsx";
import { QueryError } from "../../parts/query-error.tsx";

export function EditKeyPage() {
  const { id } = useParams({ from: "/in/keys/$id/edit" });
  const { data, error, refetch } = useQuery(ApiKeyService.method.getApiKey, { id });
  if (data?.apiKey !== undefined) return <EditKeyForm key={id} apiKey={data.apiKey} />;
  if (error !== null) return <QueryError error={error} onRetry={() => void refetch()} />;
  return <Skeleton h={320} />;
}

function EditKeyForm({ apiKey }: { apiKey: ApiKey }) {
  // As it was when the form was opened: what others change meanwhile is not undone, for only what was changed here is sent.
  const [before] = useState(() => draftOf(apiKey));
  const [draft, setDraft] = useState(before);
  const [tried, setTried] = useState(false);
  const navigate = useNavigate();
  const client = useQueryClient();
  const update = useMutation(ApiKeyService.method.updateApiKey);
  const paths = changedPaths(before, draft);
  const problems = problemsOf(draft, before);

  async function submit(event: FormEvent) {
    event.preventDefault();
    setTried(true);
    if (Object.keys(problems).length > 0) return;
    try {
      await update.mutateAsync({ apiKey: { id: apiKey.id, ...fieldsOf(draft) }, updateMask: { paths } });
    } catch {
      // Shown beside the form.
      return;
    }
    await client.invalidateQueries();
    notifyDone("The key was changed.");
    await navigate({ to: "/keys/$id", params: { id: apiKey.id } });
  }

  return (
    <>
      <PageHeader
        title={`Edit “${apiKey.name}”`}
        back={
          <Link to="/keys/$id" params={{ id: apiKey.id }}>
            {apiKey.name}
          </Link>
        }
      />
      <form onSubmit={submit} noValidate className={classes.page}>
        <Panel>
          <KeyFields draft={draft} onChange={setDraft} problems={tried ? problems : {}} withUser={false} />
        </Panel>
        <div className={classes.side}>
          <Panel title="This key">
            <Stack gap="lg">
              <KeySummary draft={draft} />
              {update.error !== null && <Notice tone="danger">{refusalOf(update.error, draft)}</Notice>}
              <Group gap="xs">
                <Button type="submit" loading={update.isPending} disabled={paths.length === 0}>
                  Save changes
                </Button>
                <LinkButton to="/keys/$id" params={{ id: apiKey.id }} variant="default">
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

/** What stands where a page would be: while it loads, when it fails, when there is none. */
import { Button, Skeleton, Stack } from "@mantine/core";
import { type ErrorComponentProps, Link, useRouter } from "@tanstack/react-router";
import { EmptyState } from "./parts/empty-state.tsx";
import { errorText } from "./parts/error-text.ts";
import { PageHeader } from "./parts/page-header.tsx";

export function PageLoading() {
  return (
    <Stack gap="md" aria-busy aria-label="Loading">
      <Skeleton h={30} w={180} />
      <Skeleton h={44} />
      <Skeleton h={320} />
    </Stack>
  );
}

export function PageFailed({ error, reset }: ErrorComponentProps) {
  const router = useRouter();
  return (
    <>
      <PageHeader title="This page could not be shown" />
      <EmptyState
        title="Something went wrong"
        action={
          <Button
            onClick={() => {
              reset();
              void router.invalidate();
            }}
          >
            Try again
          </Button>
        }
      >
        {errorText(error)}
      </EmptyState>
    </>
  );
}

/** The data of a notFound for who is not staff. */
export const staffOnly = "staff only";

export function NotFound({ data }: { data?: unknown }) {
  return data === staffOnly ? (
    <>
      <PageHeader title="For staff" />
      <EmptyState title="Only staff see this page" action={<Link to="/">To the overview</Link>}>
        You are signed in with a key whose user is not staff. Ask somebody who is, or sign in with another
        key.
      </EmptyState>
    </>
  ) : (
    <>
      <PageHeader title="Not found" />
      <EmptyState title="There is no such page" action={<Link to="/">To the overview</Link>}>
        The address may be mistyped, or of a newer version of the console.
      </EmptyState>
    </>
  );
}

/** Calls any method that is mounted here, with any key's token, from the browser. */

import { IconSend } from "@tabler/icons-react";
import { useNavigate, useSearch } from "@tanstack/react-router";
import { EmptyState } from "../../parts/empty-state.tsx";
import { PageHeader } from "../../parts/page-header.tsx";
import { Panel } from "../../parts/panel.tsx";
import { QueryError } from "../../parts/query-error.tsx";
import { useMethods, useRegistry } from "../../parts/use-methods.ts";
import { CallForm } from "./call-form.tsx";
import { MethodChooser } from "./method-chooser.tsx";

export function TryItPage() {
  const { method } = useSearch({ from: "/in/try" });
  const navigate = useNavigate({ from: "/try" });
  const { data: methods, error, refetch } = useMethods();
  const registry = useRegistry();
  const [serviceName = "", methodName = ""] = method?.split("/") ?? [];
  const description = methods?.services
    .find(({ name }) => name === serviceName)
    ?.methods.find(({ name }) => name === methodName);
  const desc = registry?.getService(serviceName)?.methods.find(({ name }) => name === methodName);
  const chooser = (
    <MethodChooser
      methods={methods}
      value={description === undefined ? undefined : method}
      onChange={(next) => void navigate({ search: { method: next } })}
    />
  );

  return (
    <>
      <PageHeader title="Try it">
        Call a method as a client would: with the token that you type in, without your session.
      </PageHeader>
      {error !== null && methods === undefined ? (
        <QueryError error={error} onRetry={() => void refetch()} />
      ) : methods !== undefined &&
        registry !== undefined &&
        desc !== undefined &&
        description !== undefined ? (
        <CallForm
          key={method}
          chooser={chooser}
          desc={desc}
          description={description}
          registry={registry}
          apiKeyHeader={methods.apiKeyHeader}
          tokenPrefix={methods.tokenPrefix}
        />
      ) : (
        <Panel>
          {chooser}
          <EmptyState
            title={
              method === undefined || methods === undefined
                ? "Choose a method"
                : "There is no such method here"
            }
            icon={<IconSend size={20} aria-hidden />}
          >
            Its form is made from its message type, with what its proto file says about each field.
          </EmptyState>
        </Panel>
      )}
    </>
  );
}

import { useQuery } from "@connectrpc/connect-query";
import { IconPlus } from "@tabler/icons-react";
import { ApiKeyService } from "../../../../gen/latchkey/v1/api_key_service_pb.js";
import { EmptyState } from "../../parts/empty-state.tsx";
import { LinkButton } from "../../parts/link-button.tsx";
import { Panel } from "../../parts/panel.tsx";
import classes from "./overview.module.css";

/** Shown above the figures while there is no key at all. */
export function FirstSteps() {
  const { data } = useQuery(ApiKeyService.method.countApiKeys, {});
  if (data === undefined || data.active + data.expired + data.revoked > 0n) return null;
  return (
    <Panel className={classes.first}>
      <EmptyState
        title="No client can sign in yet"
        action={
          <LinkButton to="/keys/new" leftSection={<IconPlus size={16} aria-hidden />}>
            Create the first API key
          </LinkButton>
        }
      >
        Create a key, hand its token to a client, and its calls appear here within a second.
      </EmptyState>
    </Panel>
  );
}

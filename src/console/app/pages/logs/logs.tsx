import { PageHeader } from "../../parts/page-header.tsx";

export function LogsPage() {
  return <PageHeader title="Request logs" />;
}

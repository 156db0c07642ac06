import { PageHeader } from "../../parts/page-header.tsx";

export function ServerPage() {
  return <PageHeader title="Server" />;
}

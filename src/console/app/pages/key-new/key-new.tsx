import { PageHeader } from "../../parts/page-header.tsx";

export function NewKeyPage() {
  return <PageHeader title="Create an API key" />;
}

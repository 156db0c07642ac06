import { PageHeader } from "../../parts/page-header.tsx";

export function TryItPage() {
  return <PageHeader title="Try it" />;
}

import { useState } from "react";
import type { Setting } from "../../../../gen/latchkey/v1/server_service_pb.js";
import { Badge } from "../../parts/badge.tsx";
import type { Column } from "../../parts/data-table/column.ts";
import { DataTable } from "../../parts/data-table/data-table.tsx";
import { EmptyState } from "../../parts/empty-state.tsx";
import { FilterBar } from "../../parts/filter-bar.tsx";
import { Panel } from "../../parts/panel.tsx";
import { SearchField } from "../../parts/search-field.tsx";

const columns: readonly Column<Setting>[] = [
  { id: "name", header: "Name", width: "44%", cell: ({ name }) => <code className="clip">{name}</code> },
  {
    id: "value",
    header: "Value",
    width: "40%",
    cell: ({ value, isDefault }) => (
      <code className={`clip ${isDefault ? "dim" : ""}`} title={value}>
        {value === "" ? "–" : value}
      </code>
    ),
  },
  {
    id: "default",
    header: "",
    align: "end",
    cell: ({ isDefault }) =>
      isDefault ? <span className="dim">Default</span> : <Badge tone="info">Set</Badge>,
  },
];

/** The settings of the instance that answers; secrets are only said to be set. */
export function Settings({ settings }: { settings: readonly Setting[] }) {
  const [search, setSearch] = useState<string>();
  const wanted = search?.toLowerCase() ?? "";
  return (
    <Panel
      title="Settings"
      about="From the environment of the instance that answers. Secrets are not shown."
      flush
    >
      <FilterBar>
        <SearchField label="Search settings" value={search} onChange={setSearch} />
      </FilterBar>
      <DataTable
        label="Settings"
        columns={columns}
        rows={settings.filter(({ name, value }) => `${name} ${value}`.toLowerCase().includes(wanted))}
        rowKey={({ name }) => name}
        empty={<EmptyState title="No setting matches" />}
      />
    </Panel>
  );
}

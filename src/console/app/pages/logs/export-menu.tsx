/** Saves the rows of the listing as a file. */
import { createClient } from "@connectrpc/connect";
import { useTransport } from "@connectrpc/connect-query";
import { Button, Group, Modal, Radio, Stack, Text } from "@mantine/core";
import { IconDownload } from "@tabler/icons-react";
import { useRef, useState } from "react";
import { ExportFormat, RequestLogService } from "../../../../gen/latchkey/v1/request_log_service_pb.js";
import { errorText } from "../../parts/error-text.ts";
import { formatBytes, formatCountOf } from "../../parts/format.ts";
import { Notice } from "../../parts/notice.tsx";
import { notifyDone } from "../../parts/notify.ts";
import { filterOf, type LogsSearch, timesOf } from "./search.ts";

const limits = {
  "10000": "The newest 10,000 rows",
  "100000": "The newest 100,000 rows",
  "1000000": "The newest million rows",
};
const formats = {
  csv: { format: ExportFormat.CSV, type: "text/csv", label: "CSV, for spreadsheets" },
  ndjson: {
    format: ExportFormat.NDJSON,
    type: "application/x-ndjson",
    label: "NDJSON, one JSON object a line",
  },
} as const;

export function ExportButton({ search }: { search: LogsSearch }) {
  const [opened, setOpened] = useState(false);
  return (
    <>
      <Button
        variant="default"
        leftSection={<IconDownload size={15} aria-hidden />}
        onClick={() => setOpened(true)}
      >
        Export
      </Button>
      <Modal opened={opened} onClose={() => setOpened(false)} title="Export these calls">
        <ExportForm search={search} onDone={() => setOpened(false)} />
      </Modal>
    </>
  );
}

function ExportForm({ search, onDone }: { search: LogsSearch; onDone: () => void }) {
  const [format, setFormat] = useState<keyof typeof formats>("csv");
  const [limit, setLimit] = useState("10000");
  const [bytes, setBytes] = useState<number>();
  const [error, setError] = useState<unknown>();
  const abort = useRef<AbortController>(undefined);
  const transport = useTransport();

  async function save() {
    const controller = new AbortController();
    abort.current = controller;
    setError(undefined);
    setBytes(0);
    try {
      const parts: Uint8Array<ArrayBuffer>[] = [];
      let size = 0;
      const counter = createRowCounter(format);
      const answers = createClient(RequestLogService, transport).exportRequestLogs(
        {
          filter: { ...filterOf(search), ...timesOf(search, Date.now()) },
          format: formats[format].format,
          limit: BigInt(limit),
        },
        { signal: controller.signal },
      );
      for await (const { data } of answers) {
        parts.push(new Uint8Array(data));
        size += data.length;
        counter.add(data);
        setBytes(size);
      }
      const name = `request-logs-${stamp()}.${format}`;
      download(new Blob(parts, { type: formats[format].type }), name);
      const rows = counter.rows();
      const isCut = rows === Number(limit);
      notifyDone(`${formatCountOf(rows, "row")} saved as ${name}.${isCut ? " There may be more." : ""}`);
      onDone();
    } catch (reason) {
      if (!controller.signal.aborted) setError(reason);
      setBytes(undefined);
    }
  }

  return (
    <form
      onSubmit={(event) => {
        event.preventDefault();
        void save();
      }}
    >
      <Stack gap="lg">
        <Radio.Group
          label="Format"
          value={format}
          onChange={(next) => setFormat(next as keyof typeof formats)}
        >
          <Stack gap="xs" mt={6}>
            {Object.entries(formats).map(([value, { label }]) => (
              <Radio key={value} value={value} label={label} />
            ))}
          </Stack>
        </Radio.Group>
        <Radio.Group label="How many" value={limit} onChange={setLimit}>
          <Stack gap="xs" mt={6}>
            {Object.entries(limits).map(([value, label]) => (
              <Radio key={value} value={value} label={label} />
            ))}
          </Stack>
        </Radio.Group>
        <Text size="sm" c="dimmed">
          Of the calls that match the filters now. The file has every field, times in UTC.
        </Text>
        {error !== undefined && <Notice tone="danger">{errorText(error)}</Notice>}
        <Group justify="flex-end" gap="xs">
          {bytes !== undefined && (
            <Text size="sm" c="dimmed" aria-live="polite" flex={1}>
              {formatBytes(bytes)} so far
            </Text>
          )}
          <Button
            variant="default"
            onClick={() => {
              abort.current?.abort();
              onDone();
            }}
          >
            Cancel
          </Button>
          <Button type="submit" loading={bytes !== undefined}>
            Save file
          </Button>
        </Group>
      </Stack>
    </form>
  );
}

/** Counts the rows of a file as its parts come: its lines, without the names of the columns and what is within quotes. */
function createRowCounter(format: keyof typeof formats) {
  const [quote, newline] = [0x22, 0x0a];
  const hasQuotes = format === "csv";
  let isQuoted = false;
  let lines = 0;
  return {
    add(data: Uint8Array) {
      for (const byte of data) {
        if (byte === quote && hasQuotes) isQuoted = !isQuoted;
        else if (byte === newline && !isQuoted) lines++;
      }
    },
    rows: () => Math.max(0, hasQuotes ? lines - 1 : lines),
  };
}

const stamp = () => new Date().toISOString().slice(0, 19).replaceAll(":", "-");

function download(blob: Blob, name: string): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  URL.revokeObjectURL(link.href);
}

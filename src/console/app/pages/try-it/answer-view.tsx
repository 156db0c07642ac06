import { Tabs } from "@mantine/core";
import { CodeBadge } from "../../parts/badge.tsx";
import { CodeBlock } from "../../parts/code-block.tsx";
import { EmptyState } from "../../parts/empty-state.tsx";
import { Fact, Facts } from "../../parts/facts.tsx";
import { formatCount, formatMs } from "../../parts/format.ts";
import { Notice } from "../../parts/notice.tsx";
import type { Answer } from "./call.ts";
import classes from "./try-it.module.css";

/** What came back, as far as it has. */
export function AnswerView({ answer }: { answer: Answer | undefined }) {
  if (answer === undefined) {
    return <EmptyState title="Not sent yet">The answer, its code, headers and time appear here.</EmptyState>;
  }
  const { code, error, messages, received, headers, trailers, ms } = answer;
  return (
    <div className={classes.answer}>
      <div className={classes.outcome} role="status">
        {code === undefined ? <span className="dim">Running…</span> : <CodeBadge code={code} />}
        <span className="num">{formatMs(Number(ms.toPrecision(3)))}</span>
        {received > 1 && (
          <span className="dim num">
            {formatCount(received)} messages
            {received > messages.length && `, the first ${messages.length} shown`}
          </span>
        )}
      </div>
      {error !== undefined && <Notice tone={code === "canceled" ? "info" : "danger"}>{error}</Notice>}
      <Tabs defaultValue="message" keepMounted={false}>
        <Tabs.List>
          <Tabs.Tab value="message">{received > 1 ? "Messages" : "Message"}</Tabs.Tab>
          <Tabs.Tab value="headers">Headers</Tabs.Tab>
        </Tabs.List>
        <Tabs.Panel value="message" pt="sm">
          {messages.length === 0 ? (
            <p className="dim">No message came.</p>
          ) : (
            <CodeBlock
              code={messages.map((message) => JSON.stringify(message, null, 2)).join("\n")}
              label="answer"
            />
          )}
        </Tabs.Panel>
        <Tabs.Panel value="headers" pt="sm">
          <Facts label="Headers and trailers">
            {[...headers, ...trailers].map(([name, value], index) => (
              // biome-ignore lint/suspicious/noArrayIndexKey: a name can come twice.
              <Fact key={index} name={name}>
                <code>{value}</code>
              </Fact>
            ))}
          </Facts>
        </Tabs.Panel>
      </Tabs>
    </div>
  );
}

import type { DescMethod, FileRegistry, JsonObject, JsonValue } from "@bufbuild/protobuf";
import { Button, PasswordInput, SegmentedControl, Stack, Textarea } from "@mantine/core";
import { IconPlayerStop, IconSend } from "@tabler/icons-react";
import { type ReactNode, useEffect, useRef, useState } from "react";
import type { MethodDescription } from "../../../../gen/latchkey/v1/server_service_pb.js";
import { Badge } from "../../parts/badge.tsx";
import { Notice } from "../../parts/notice.tsx";
import { Panel } from "../../parts/panel.tsx";
import { accessWords } from "../../parts/words.ts";
import { AnswerView } from "./answer-view.tsx";
import { type Answer, makeCall } from "./call.ts";
import { ExtraHeaders, type HeaderRow } from "./extra-headers.tsx";
import { MessageForm } from "./form/message-form.tsx";
import { Snippets } from "./snippets.tsx";
import classes from "./try-it.module.css";

interface CallFormProps {
  readonly chooser: ReactNode;
  readonly desc: DescMethod;
  readonly description: MethodDescription;
  readonly registry: FileRegistry;
  readonly apiKeyHeader: string;
  readonly tokenPrefix: string;
}

export function CallForm({ chooser, desc, description, registry, apiKeyHeader, tokenPrefix }: CallFormProps) {
  const [json, setJson] = useState<JsonObject>({});
  /** The message as text, while it is edited as such. */
  const [text, setText] = useState<string>();
  const [headers, setHeaders] = useState<readonly HeaderRow[]>([]);
  const [answer, setAnswer] = useState<Answer>();
  const [problem, setProblem] = useState<string>();
  const [hasToken, setHasToken] = useState(false);
  const token = useRef<HTMLInputElement>(null);
  const running = useRef<AbortController>(undefined);
  const isRunning = answer !== undefined && answer.code === undefined;
  useEffect(() => () => running.current?.abort(), []);

  const named = headers.filter(([name]) => name.trim() !== "");
  const parsed = text === undefined ? json : parse(text);

  async function send() {
    if (parsed === undefined) {
      setProblem("The message is not JSON.");
      return;
    }
    running.current?.abort();
    const controller = new AbortController();
    running.current = controller;
    setProblem(undefined);
    setAnswer(undefined);
    try {
      const sent = new Headers(named.map(([name, value]) => [name.trim(), value]));
      const typed = token.current?.value.trim() ?? "";
      if (typed !== "") sent.set(apiKeyHeader, typed);
      await makeCall({
        method: desc,
        registry,
        json: parsed,
        headers: sent,
        signal: controller.signal,
        onAnswer: (next) => {
          if (running.current === controller) setAnswer(next);
        },
      });
    } catch (error) {
      // What was filled in makes no message, or no header.
      setProblem(error instanceof Error ? error.message : String(error));
    }
  }

  const call = {
    service: desc.parent.typeName,
    method: desc.name,
    json: JSON.stringify(parsed ?? {}),
    header: apiKeyHeader,
    token: hasToken ? "$TOKEN" : "",
    headers: named,
  };
  return (
    <form
      className={classes.page}
      noValidate
      onSubmit={(event) => {
        event.preventDefault();
        void send();
      }}
    >
      <div className={classes.column}>
        <Panel>
          <div className={classes.choose}>
            {chooser}
            <div className={classes.facts}>
              <Badge>{accessWords[description.access]}</Badge>
              {description.safe && <Badge tone="good">No side effects</Badge>}
              <code>{desc.parent.typeName}</code>
              <code>
                {desc.input.name} → {desc.methodKind === "server_streaming" && "stream "}
                {desc.output.name}
              </code>
            </div>
            {paragraphs(description.comment).map((words) => (
              <p key={words} className={classes.comment}>
                {words}
              </p>
            ))}
          </div>
        </Panel>
        <Panel title="Who calls">
          <Stack gap="md">
            <PasswordInput
              ref={token}
              label="Token"
              description={`Sent as ${apiKeyHeader}. Empty: anonymous. It is not kept.`}
              placeholder={`${tokenPrefix}_…`}
              autoComplete="off"
              spellCheck={false}
              onChange={({ currentTarget }) => setHasToken(currentTarget.value.trim() !== "")}
            />
            <ExtraHeaders value={headers} onChange={setHeaders} />
          </Stack>
        </Panel>
        <Panel
          title="Message"
          actions={
            <SegmentedControl
              size="xs"
              aria-label="Edit the message as"
              data={["Form", "JSON"]}
              value={text === undefined ? "Form" : "JSON"}
              onChange={(mode) => {
                if (mode === "JSON") return setText(JSON.stringify(json, null, 2));
                const object = parse(text ?? "");
                if (!isObject(object)) return setProblem("Mend the JSON before going back to the form.");
                setJson(object);
                setText(undefined);
                setProblem(undefined);
              }}
            />
          }
        >
          <Stack gap="md">
            {text === undefined ? (
              <MessageForm message={desc.input} value={json} onChange={setJson} />
            ) : (
              <Textarea
                aria-label="Message in JSON"
                value={text}
                autosize
                minRows={8}
                spellCheck={false}
                classNames={{ input: "mono" }}
                error={parsed === undefined && "Not JSON yet"}
                onChange={({ currentTarget }) => setText(currentTarget.value)}
              />
            )}
            {problem !== undefined && <Notice tone="danger">{problem}</Notice>}
          </Stack>
        </Panel>
      </div>
      <div className={`${classes.column} ${classes.answers}`}>
        <Panel
          title="Answer"
          actions={
            <div className={classes.send}>
              {isRunning && (
                <Button
                  variant="default"
                  leftSection={<IconPlayerStop size={15} aria-hidden />}
                  onClick={() => running.current?.abort()}
                >
                  Stop
                </Button>
              )}
              <Button type="submit" leftSection={<IconSend size={15} aria-hidden />}>
                Send
              </Button>
            </div>
          }
        >
          <AnswerView answer={answer} />
        </Panel>
        <Panel title="The same call elsewhere">
          <Snippets method={desc} call={call} json={parsed ?? {}} />
        </Panel>
      </div>
    </form>
  );
}

/** Of a comment, whose lines are as long as its file has them. */
function paragraphs(comment: string): string[] {
  return comment
    .trim()
    .split(/\n\s*\n/)
    .map((lines) => lines.replace(/\s*\n\s*/g, " "))
    .filter(Boolean);
}

function parse(text: string): JsonValue | undefined {
  try {
    return JSON.parse(text) as JsonValue;
  } catch {
    return undefined;
  }
}

function isObject(value: JsonValue | undefined): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

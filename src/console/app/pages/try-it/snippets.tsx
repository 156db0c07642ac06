/** The call as one types it elsewhere. */
import type { DescMethod, JsonValue } from "@bufbuild/protobuf";
import { Tabs } from "@mantine/core";
import { CodeBlock } from "../../parts/code-block.tsx";
import { type Call, curlCommand, grpcurlCommand } from "../../parts/commands.ts";

interface SnippetsProps {
  readonly method: DescMethod;
  readonly call: Call;
  readonly json: JsonValue;
}

/** The token is $TOKEN in all of them: commands end up in histories and chats. */
export function Snippets({ method, call, json }: SnippetsProps) {
  const isUnary = method.methodKind === "unary";
  return (
    <Tabs defaultValue={isUnary ? "curl" : "grpcurl"} keepMounted={false}>
      <Tabs.List>
        {isUnary && <Tabs.Tab value="curl">curl</Tabs.Tab>}
        <Tabs.Tab value="grpcurl">grpcurl</Tabs.Tab>
        <Tabs.Tab value="typescript">TypeScript</Tabs.Tab>
      </Tabs.List>
      {isUnary && (
        <Tabs.Panel value="curl" pt="sm">
          <CodeBlock code={curlCommand(call)} label="curl command" />
        </Tabs.Panel>
      )}
      <Tabs.Panel value="grpcurl" pt="sm">
        <CodeBlock code={grpcurlCommand(call)} label="grpcurl command" />
      </Tabs.Panel>
      <Tabs.Panel value="typescript" pt="sm">
        <CodeBlock code={typescript(method, call, json)} label="TypeScript" />
      </Tabs.Panel>
    </Tabs>
  );
}

function typescript(method: DescMethod, { header, token, headers = [] }: Call, json: JsonValue): string {
  const service = method.parent;
  const file = `./gen/${service.file.name}_pb.js`;
  const all = [
    ...(token === "" ? [] : [[header, "process.env.TOKEN"]]),
    ...headers.map(([n, v]) => [n, JSON.stringify(v)]),
  ];
  const options =
    all.length === 0
      ? ""
      : `, { headers: { ${all.map(([n, v]) => `${JSON.stringify(n)}: ${v}`).join(", ")} } }`;
  const message = `fromJson(${method.input.name}Schema, ${JSON.stringify(json, null, 2)})`;
  const call = `client.${method.localName}(${message}${options})`;
  const isStream = method.methodKind === "server_streaming";
  return `import { fromJson } from "@bufbuild/protobuf";
import { createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { ${method.input.name}Schema, ${service.name} } from "${file}";

const transport = createGrpcTransport({ baseUrl: "${window.location.origin}" });
const client = createClient(${service.name}, transport);
${isStream ? `for await (const answer of ${call}) {\n  console.log(answer);\n}` : `console.log(await ${call});`}
`;
}

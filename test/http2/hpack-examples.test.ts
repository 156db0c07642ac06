/** The examples of RFC 7541, appendix C: what they come to, and the dynamic table after each. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { HeaderDecoder } from "../../src/http2/hpack/decoder.ts";
import type { Field } from "./hpack-writer.ts";

interface Example {
  readonly block: string;
  readonly fields: readonly Field[];
  readonly tableBytes: number;
}

const request: Field[] = [
  [":method", "GET"],
  [":scheme", "http"],
  [":path", "/"],
  [":authority", "www.example.com"],
];
const requests: (readonly Field[])[] = [
  request,
  [...request, ["cache-control", "no-cache"]],
  [
    [":method", "GET"],
    [":scheme", "https"],
    [":path", "/index.html"],
    [":authority", "www.example.com"],
    ["custom-key", "custom-value"],
  ],
];
const answer = (status: string, date: string): Field[] => [
  [":status", status],
  ["cache-control", "private"],
  ["date", date],
  ["location", "https://www.example.com"],
];
const answers: (readonly Field[])[] = [
  answer("302", "Mon, 21 Oct 2013 20:13:21 GMT"),
  answer("307", "Mon, 21 Oct 2013 20:13:21 GMT"),
  [
    ...answer("200", "Mon, 21 Oct 2013 20:13:22 GMT"),
    ["content-encoding", "gzip"],
    ["set-cookie", "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1"],
  ],
];

const requestTableBytes = [57, 110, 164];
const answerTableBytes = [222, 222, 215];

function sequence(
  blocks: string[],
  lists: readonly (readonly Field[])[],
  tableBytes: readonly number[],
): Example[] {
  return blocks.map((block, i) => ({ block, fields: lists[i]!, tableBytes: tableBytes[i]! }));
}

/** Answers are of a table of 256 bytes: the first says so. */
const to256Bytes = "3fe101";

const sections: Record<string, Example[]> = {
  "C.2.1, a literal with indexing": [
    {
      block: "400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572",
      fields: [["custom-key", "custom-header"]],
      tableBytes: 55,
    },
  ],
  "C.2.2, a literal without indexing": [
    { block: "040c 2f73 616d 706c 652f 7061 7468", fields: [[":path", "/sample/path"]], tableBytes: 0 },
  ],
  "C.2.3, a literal never indexed": [
    {
      block: "1008 7061 7373 776f 7264 0673 6563 7265 74",
      fields: [["password", "secret"]],
      tableBytes: 0,
    },
  ],
  "C.2.4, an index": [{ block: "82", fields: [[":method", "GET"]], tableBytes: 0 }],
  "C.3, requests without Huffman code": sequence(
    [
      "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
      "8286 84be 5808 6e6f 2d63 6163 6865",
      "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
    ],
    requests,
    requestTableBytes,
  ),
  "C.4, requests with Huffman code": sequence(
    [
      "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
      "8286 84be 5886 a8eb 1064 9cbf",
      "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
    ],
    requests,
    requestTableBytes,
  ),
  "C.5, answers without Huffman code, with evictions": sequence(
    [
      `${to256Bytes} 4803 3330 3258 0770 7269 7661 7465 611d
       4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3120 474d 54
       6e17 6874 7470 733a 2f2f 7777 772e 6578 616d 706c 652e 636f 6d`,
      "4803 3330 37c1 c0bf",
      `88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54
       c05a 0467 7a69 7077 3866 6f6f 3d41 5344 4a4b 4851 4b42 5a58 4f51 5745 4f50 4955 4158
       5157 454f 4955 3b20 6d61 782d 6167 653d 3336 3030 3b20 7665 7273 696f 6e3d 31`,
    ],
    answers,
    answerTableBytes,
  ),
  "C.6, answers with Huffman code, with evictions": sequence(
    [
      `${to256Bytes} 4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6
       2d1b ff6e 919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3`,
      "4883 640e ffc1 c0bf",
      `88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab
       77ad 94e7 821d d7f2 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587
       3160 65c0 03ed 4ee5 b106 3d50 07`,
    ],
    answers,
    answerTableBytes,
  ),
};

for (const [section, examples] of Object.entries(sections)) {
  test(section, () => {
    const decoder = new HeaderDecoder({ maxTableBytes: 4096, maxListBytes: 4096 });
    for (const { block, fields, tableBytes } of examples) {
      const octets = Buffer.from(block.replace(/\s/g, ""), "hex");
      assert.deepEqual(decoder.decode(octets, 0, octets.length).rawHeaders, fields.flat());
      assert.equal(decoder.tableBytes, tableBytes);
    }
  });
}

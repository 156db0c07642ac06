/** Which fields an update names. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { FieldMaskSchema } from "@bufbuild/protobuf/wkt";
import { Code } from "@connectrpc/connect";
import { readMask } from "../../src/rpc/field-mask.ts";

const mask = (...paths: string[]) => create(FieldMaskSchema, { paths });
const paths = ["name", "expires_at"] as const;

test("a mask names fields, each once", () => {
  assert.deepEqual(readMask(mask("expires_at", "name", "name"), paths), new Set(["expires_at", "name"]));
});

test("a mask that names nothing is refused, saying what it may name", () => {
  for (const empty of [undefined, mask()]) {
    assert.throws(() => readMask(empty, paths), {
      code: Code.InvalidArgument,
      rawMessage: "update_mask must name what changes: name, expires_at",
    });
  }
});

for (const path of [
  "",
  "*",
  "Name",
  "expiresAt",
  "expires_at.seconds",
  "id",
  "__proto__",
  "x".repeat(10_000),
]) {
  test(`a path that cannot be changed is refused: ${path.slice(0, 20)}`, () => {
    assert.throws(
      () => readMask(mask("name", path), paths),
      (error: { code: Code; rawMessage: string }) => {
        assert.equal(error.code, Code.InvalidArgument);
        assert.match(
          error.rawMessage,
          /^update_mask names ".*", which cannot be changed: it takes name, exp/,
        );
        assert.ok(error.rawMessage.length < 300);
        return true;
      },
    );
  });
}

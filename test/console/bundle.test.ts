/** How much a browser loads before it shows something. */
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";

const built = fileURLToPath(new URL("../../dist/console/app/", import.meta.url));

interface Chunk {
  readonly file: string;
  readonly imports?: string[];
  readonly dynamicImports?: string[];
  readonly css?: string[];
}

const manifest = JSON.parse(readFileSync(`${built}.vite/manifest.json`, "utf8")) as Record<string, Chunk>;

/** A chunk's file and all that it cannot do without. */
function filesOf(name: string, seen = new Set<string>()): Set<string> {
  const chunk = manifest[name];
  assert.ok(chunk !== undefined, name);
  if (seen.has(chunk.file)) return seen;
  seen.add(chunk.file);
  for (const each of chunk.imports ?? []) filesOf(each, seen);
  return seen;
}

const kilobytes = (files: Iterable<string>) =>
  [...files].reduce((sum, file) => sum + gzipSync(readFileSync(built + file), { level: 9 }).length, 0) / 1000;

const pages = Object.keys(manifest["index.html"]?.dynamicImports ?? []).map(
  (index) => manifest["index.html"]?.dynamicImports?.[Number(index)] ?? "",
);

test("each page is a script of its own", () => {
  assert.ok(pages.length >= 11, pages.join());
});

test("the first page needs less than 350 kB of script, compressed, whichever page it is", () => {
  for (const page of pages) {
    const size = kilobytes(filesOf(page, filesOf("index.html")));
    assert.ok(size < 350, `${page}: ${size} kB`);
  }
});

test("every script and stylesheet lies there compressed too, as it is", () => {
  const names = readdirSync(`${built}assets`);
  for (const name of names.filter((each) => /\.(js|css)$/.test(each))) {
    assert.ok(names.includes(`${name}.br`) && names.includes(`${name}.gz`), name);
  }
});

test("nothing of it is from elsewhere", () => {
  const page = readFileSync(`${built}index.html`, "utf8");
  assert.doesNotMatch(page, /(?:src|href)="(?!\/console\/)/);
  assert.doesNotMatch(page, /<script(?![^>]*\ssrc=)|\son\w+=|\sstyle=/);
});

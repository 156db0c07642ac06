/** Builds the console's pages (src/console/app) into dist/console/app, where its plugin serves them from. */
import { readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { brotliCompress, constants, gzip } from "node:zlib";
import react from "@vitejs/plugin-react";
import { defineConfig, type Plugin } from "vite";

/** Writes FILE.br and FILE.gz beside each asset: the server compresses nothing. */
function precompress(): Plugin {
  let assets = "";
  return {
    name: "precompress",
    apply: "build",
    configResolved({ root, build }) {
      assets = join(root, build.outDir, build.assetsDir);
    },
    async closeBundle() {
      const names = await readdir(assets);
      await Promise.all(
        names
          .filter((name) => /\.(js|css|svg)$/.test(name))
          .map(async (name) => {
            const file = join(assets, name);
            const data = await readFile(file);
            const quality = { params: { [constants.BROTLI_PARAM_QUALITY]: 10 } };
            await Promise.all([
              promisify(brotliCompress)(data, quality).then((made) => writeFile(`${file}.br`, made)),
              promisify(gzip)(data, { level: 9 }).then((made) => writeFile(`${file}.gz`, made)),
            ]);
          }),
      );
    },
  };
}

export default defineConfig({
  root: "src/console/app",
  base: "/console/",
  plugins: [react(), precompress()],
  // The server puts a new nonce there in every answer.
  html: { cspNonce: "__CSP_NONCE__" },
  build: {
    outDir: "../../../dist/console/app",
    emptyOutDir: true,
    target: "es2023",
    // The Content-Security-Policy allows no data: URL but of images.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    // Says which files a page needs: the test of the bundle's size reads it.
    manifest: true,
    reportCompressedSize: false,
    chunkSizeWarningLimit: 1_000,
  },
});

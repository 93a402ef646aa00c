// Serves this folder to browsers on this machine: node server.mjs [PORT] [FOLDER OF MODELS]

import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { createServer } from "node:http";
import { extname, join, normalize, resolve, sep } from "node:path";
import { fileURLToPath } from "node:url";

const TYPES = {
  ".css": "text/css",
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript",
  ".json": "application/json",
  ".wasm": "application/wasm", // without it browsers would not compile while loading
};
const page = fileURLToPath(new URL(".", import.meta.url));
const [port = "8000", models = join(page, "models")] = process.argv.slice(2);

// The file of an address, or undefined if it lies outside of the folder it belongs to.
function fileOf(address) {
  const path = normalize(decodeURIComponent(new URL(address, "http://localhost").pathname));
  const [folder, rest] = path.startsWith("/models/") ? [models, path.slice(7)] : [page, path];
  const file = join(resolve(folder), rest === "/" ? "index.html" : rest);
  return file.startsWith(resolve(folder) + sep) ? file : undefined;
}

async function answer(request, response) {
  try {
    const file = fileOf(request.url);
    const { size } = await stat(file);
    const type = TYPES[extname(file)] ?? "application/octet-stream";
    response.writeHead(200, { "Content-Type": type, "Content-Length": size, "Cache-Control": "no-cache" });
    createReadStream(file).on("error", () => response.destroy()).pipe(response);
  } catch {
    response.writeHead(404).end("not found\n");
  }
}

const server = createServer(answer).listen(Number(port), "127.0.0.1", () => {
  console.log(`http://127.0.0.1:${server.address().port}/`);
});

import { resolve } from "node:path";

import { defineConfig } from "vite";

/** The service behind the page while it is being worked on; the built page is served by the service itself. */
const SERVICE = process.env.SAMOSA_URL ?? "http://127.0.0.1:8003";
const ROUTES = ["/health", "/generate", "/models", "/stats", "/openapi.json", "/openai.json", "/v1", "/tokenize", "/detokenize"];

const OWN = ["index.css", "docs.css", "chart.css"];

/** Fonts by their family alone; styles by their page, or `shared.css`, which is otherwise called after any of what is shared. */
function short(name: string): string {
  if (name.endsWith(".woff2")) {
    return name.replace(/-latin-.*/, ".woff2");
  }
  return name.endsWith(".css") && !OWN.includes(name) ? "shared.css" : name;
}

/** Two pages, `/` and `/docs`. Names carry no hash: the service compares contents, and a diff shows what changed. */
export default defineConfig({
  base: "./",
  build: {
    target: "es2022",
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    rollupOptions: {
      input: { index: resolve(import.meta.dirname, "index.html"), docs: resolve(import.meta.dirname, "docs.html") },
      output: {
        entryFileNames: "assets/[name].js",
        chunkFileNames: ({ isDynamicEntry }) => (isDynamicEntry ? "assets/[name].js" : "assets/shared.js"),
        assetFileNames: ({ names: [name = ""] }) => `assets/${short(name)}`,
      },
    },
  },
  server: { proxy: Object.fromEntries(ROUTES.map((route) => [route, { target: SERVICE, changeOrigin: true }])) },
});

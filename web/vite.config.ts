import { resolve } from "node:path";

import { defineConfig } from "vite";

/** The service behind the page while it is being worked on; the built page is served by the service itself. */
const SERVICE = process.env.SAMOSA_URL ?? "http://127.0.0.1:8003";
const ROUTES = ["/health", "/generate", "/models", "/stats", "/openapi.json", "/openai.json", "/v1", "/tokenize", "/detokenize"];

/** Names of what two pages share, and of fonts without what is said of them in a stylesheet. */
const SHORT: Record<string, string> = {
  "jsxRuntime.css": "shared.css",
  "figtree-latin-wght-normal.woff2": "figtree.woff2",
  "young-serif-latin-400-normal.woff2": "young-serif.woff2",
};

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
        assetFileNames: ({ names: [name = ""] }) => `assets/${SHORT[name] ?? name}`,
      },
    },
  },
  server: { proxy: Object.fromEntries(ROUTES.map((route) => [route, { target: SERVICE, changeOrigin: true }])) },
});

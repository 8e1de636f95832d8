/** What the command that runs these tests says of its machine; without it, what is usual in the repository. */

import { existsSync, mkdirSync, mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";

const here = import.meta.dirname;

/** The binary that is driven. */
export const BINARY = process.env.SAMOSA_BINARY ?? resolve(here, "../../../target/release/samosa");
/** The instruction set of the servers; no test may depend on what one of them samples. */
export const ISA = process.env.ISA ?? "auto";
/** Small checkpoints to swap to. */
export const GOLDENS = process.env.SAMOSA_GOLDENS ?? resolve(here, "../../../goldens");
/** The browser. */
export const CHROMIUM = process.env.CHROMIUM ?? ["/usr/bin/chromium", "/usr/bin/chromium-browser"].find((path) => existsSync(path));
/** Where logs and pictures of what failed go. */
export const OUT = outFolder();

export const KEY = "a-key-of-the-page";

function outFolder() {
  const named = process.env.SAMOSA_PAGE_OUT;
  if (!named) {
    return mkdtempSync(join(tmpdir(), "samosa-page-"));
  }
  mkdirSync(named, { recursive: true });
  return named;
}

/** Asking an operation, and hearing its answer as it comes. */

import { signal } from "@preact/signals";

import { address } from "../server/ask";
import { key, refuse } from "../server/key";
import { lines } from "../server/lines";

/** Whether something was tried that wants a key. */
export const wantsKey = signal(false);

/** What an answer was, so far. */
export interface Heard {
  status: number;
  headers: [string, string][];
  /** Milliseconds to the headers, and to the end. */
  head_ms: number;
  whole_ms: number | null;
  body: string;
}

export interface Wanted {
  method: string;
  path: string;
  headers: Record<string, string>;
  body: string | undefined;
  signal: AbortSignal;
}

/** Bytes of an answer that are shown. */
const SHOWN = 200_000;

/** Asks, and tells again and again what came. Unlike the rest of the page it takes every status for an answer. */
export async function tryIt(wanted: Wanted, tell: (heard: Heard) => void): Promise<void> {
  const headers = new Headers(wanted.headers);
  const asked = key.value;
  if (asked) {
    headers.set("X-Internal-API-Key", asked);
  }
  const init: RequestInit = { method: wanted.method.toUpperCase(), headers, signal: wanted.signal, cache: "no-store", credentials: "omit" };
  if (wanted.body !== undefined) {
    headers.set("Content-Type", "application/json");
    init.body = wanted.body;
  }
  const begun = performance.now();
  const response = await fetch(address(wanted.path), init);
  if (response.status === 401) {
    refuse(asked, "The service did not take that key.");
    wantsKey.value = true;
  }
  const heard: Heard = { status: response.status, headers: [...response.headers], head_ms: performance.now() - begun, whole_ms: null, body: "" };
  tell({ ...heard });
  if (response.body) {
    for await (const batch of lines(response.body)) {
      heard.body = `${heard.body}${batch.join("\n")}\n`.slice(0, SHOWN);
      tell({ ...heard });
    }
  }
  tell({ ...heard, body: pretty(heard.body), whole_ms: performance.now() - begun });
}

/** JSON laid out; anything else as it is. */
function pretty(text: string): string {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

/** The key that every request carries: asked for once, kept for the tab's session, or brought by the address's fragment. */

import { signal } from "@preact/signals";

import { recall, retain } from "../shell/kept";

const STORED = "samosa.key";
const FRAGMENT = "#key=";

/** The key; empty while none is known. */
export const key = signal(recall("sessionStorage", STORED) ?? "");

/** Why a key is asked for again, or empty. */
export const refusal = signal("");

/** A fragment is never sent to a server; it is taken out of the address at once, so that no bookmark and no way back holds it. */
function take(): void {
  if (location.hash.startsWith(FRAGMENT)) {
    const brought = decode(location.hash.slice(FRAGMENT.length)).trim();
    history.replaceState(history.state, "", location.pathname + location.search);
    if (brought) {
      keep(brought);
    }
  }
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** Whether a header can carry it; what was pasted may hold signs that nobody sees. */
function canBeSent(text: string): boolean {
  return /^[\x20-\x7e\x80-\xff]*$/.test(text);
}

/** Keeps a key for this tab; an empty one forgets. */
export function keep(text: string): void {
  const isKey = canBeSent(text);
  refusal.value = isKey ? "" : "That holds signs that no key has. Copy it once more.";
  key.value = isKey ? text : "";
  retain("sessionStorage", STORED, key.value || null);
}

/** The service did not take one; another may have been given since it was asked. */
export function refuse(asked: string, why: string): void {
  if (key.value !== asked) {
    return;
  }
  keep("");
  refusal.value = why;
}

take();
// A link with a key that is opened in a tab which shows the page already changes the fragment only.
addEventListener("hashchange", take);

/** The key that every request carries: asked for once, kept for the tab's session, or brought by the address's fragment. */

import { signal } from "@preact/signals";

const STORED = "samosa.key";
const FRAGMENT = "#key=";

/** The key; empty while none is known. */
export const key = signal(take());

/** Why a key is asked for again, or empty. */
export const refusal = signal("");

/** A fragment is never sent to a server; it is taken out of the address at once, so that no bookmark or history holds it. */
function take(): string {
  if (location.hash.startsWith(FRAGMENT)) {
    const named = decode(location.hash.slice(FRAGMENT.length));
    history.replaceState(history.state, "", location.pathname + location.search);
    if (named) {
      sessionStorage.setItem(STORED, named);
      return named;
    }
  }
  return sessionStorage.getItem(STORED) ?? "";
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** Keeps a key for this tab; an empty one forgets. */
export function keep(text: string): void {
  refusal.value = "";
  key.value = text;
  if (text) {
    sessionStorage.setItem(STORED, text);
  } else {
    sessionStorage.removeItem(STORED);
  }
}

/** The service did not take it. */
export function refuse(why: string): void {
  keep("");
  refusal.value = why;
}

// A link with a key that is opened in a tab which shows the page already changes the fragment only.
addEventListener("hashchange", () => {
  if (location.hash.startsWith(FRAGMENT)) {
    keep(take());
  }
});

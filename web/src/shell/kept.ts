/** What the browser keeps for the page. A reader may have forbidden it, and it may be full: then nothing is kept. */

type Store = "localStorage" | "sessionStorage";

export function recall(store: Store, name: string): string | null {
  try {
    return globalThis[store].getItem(name);
  } catch {
    return null;
  }
}

/** The names that begin so. */
export function names(store: Store, begin: string): string[] {
  try {
    return Object.keys(globalThis[store]).filter((name) => name.startsWith(begin));
  } catch {
    return [];
  }
}

/** Keeps a text under a name; none forgets it. */
export function retain(store: Store, name: string, text: string | null): void {
  try {
    if (text === null) {
      globalThis[store].removeItem(name);
    } else {
      globalThis[store].setItem(name, text);
    }
  } catch {
    // It lasts as long as the page does.
  }
}

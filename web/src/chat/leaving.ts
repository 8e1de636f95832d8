/** What was not written down when a page went away. A database is too slow for that moment; this is not, and the next page takes it. */

import { names, recall, retain } from "../shell/kept";
import type { Conversation } from "./conversation";

const LEFT = "samosa.left.";

/** Keeps a conversation as it is, or that it is deleted. */
export function leave(id: string, conversation: Conversation | null): void {
  retain("localStorage", LEFT + id, JSON.stringify(conversation));
}

/** The database has it by now. */
export function settle(id: string): void {
  retain("localStorage", LEFT + id, null);
}

/** All that was left, by id; it is the caller's from now on. */
export function taken(): [string, Conversation | null][] {
  return names("localStorage", LEFT).flatMap((name): [string, Conversation | null][] => {
    const text = recall("localStorage", name);
    retain("localStorage", name, null);
    // Nothing is there if another tab opened at the same time and took it; that is no deletion.
    return text === null ? [] : [[name.slice(LEFT.length), JSON.parse(text)]];
  });
}

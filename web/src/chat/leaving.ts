/** What was written when a page went away. A database is too slow for that moment; this is not, and the next page takes it. */

import type { Conversation, Turn } from "./conversation";

const STORED = "samosa.cut.";

/** Keeps the text of a turn. */
export function leave(turn: string, text: string): void {
  try {
    localStorage.setItem(STORED + turn, text);
  } catch {
    // Full or forbidden: what was saved last is what there is.
  }
}

/** A conversation with the texts that were kept of its turns, which are forgotten here; null if there were none. */
export function taken(conversation: Conversation): Conversation | null {
  const found = Object.values(conversation.turns).flatMap((turn): Turn[] => {
    const text = localStorage.getItem(STORED + turn.id);
    localStorage.removeItem(STORED + turn.id);
    return text !== null && text.length > turn.text.length ? [{ ...turn, text, standing: "cut" }] : [];
  });
  const turns = Object.fromEntries(found.map((turn) => [turn.id, turn]));
  return found.length > 0 ? { ...conversation, turns: { ...conversation.turns, ...turns } } : null;
}

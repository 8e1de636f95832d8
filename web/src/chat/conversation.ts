/** A conversation: a tree of turns, of which one path is shown. Editing and regenerating add siblings; nothing is lost. */

/** How an answer stands. `cut`: its page went away while it was written. */
export type Standing = "writing" | "whole" | "stopped" | "failed" | "cut";

/** What was measured and decided when an answer was made. */
export interface Figures {
  model_tag: string;
  weights: string;
  /** Digits: seeds are larger than numbers hold. */
  seed: string;
  prompt_tokens: number;
  cached_tokens: number;
  completion_tokens: number;
  finish_reason: "stop" | "length";
  /** From asking to the first text, as the reader saw it. */
  first_ms: number;
  /** After the first token. */
  tokens_per_second: number | null;
  /** Turns that the model did not see any more, for lack of room. */
  dropped_messages: number;
  /** Messages that were sent shortened. */
  shortened_messages: number;
}

/** Why there is no whole answer. */
export interface Fault {
  detail: string;
  code: string;
  retryable: boolean;
  /** When it is worth asking again, in milliseconds since 1970. */
  again_at: number | null;
  request_id: string | null;
}

export interface Turn {
  id: string;
  /** The turn before; null for a first one. */
  parent: string | null;
  role: "user" | "assistant";
  text: string;
  at: number;
  standing: Standing;
  figures?: Figures;
  fault?: Fault;
}

export interface Conversation {
  id: string;
  title: string;
  /** Whether somebody named it; otherwise its first words do. */
  named: boolean;
  begun: number;
  changed: number;
  turns: Record<string, Turn>;
  /** Of a turn's followers the one that is shown, by the turn's id; by "" for the first turns. */
  chosen: Record<string, string>;
}

const TITLE_LENGTH = 60;

export function newId(): string {
  // Not crypto.randomUUID: that is only there on https and loopback.
  const bytes = crypto.getRandomValues(new Uint8Array(9));
  return Array.from(bytes, (byte) => byte.toString(36).padStart(2, "0")).join("");
}

export function newConversation(now = Date.now()): Conversation {
  return { id: newId(), title: "New chat", named: false, begun: now, changed: now, turns: {}, chosen: {} };
}

/** Turns that follow one, in the order in which they came. */
export function followers(conversation: Conversation, parent: string | null): Turn[] {
  return Object.values(conversation.turns)
    .filter((turn) => turn.parent === parent)
    .sort((a, b) => a.at - b.at || (a.id < b.id ? -1 : 1));
}

/** The turns that are shown, first to last. */
export function path(conversation: Conversation): Turn[] {
  const turns: Turn[] = [];
  let parent: string | null = null;
  for (;;) {
    const next: Turn[] = followers(conversation, parent);
    const chosen: Turn | undefined = next.find((turn) => turn.id === conversation.chosen[parent ?? ""]) ?? next.at(-1);
    if (!chosen) {
      return turns;
    }
    turns.push(chosen);
    parent = chosen.id;
  }
}

/** The turns up to and with one. */
export function upTo(conversation: Conversation, id: string): Turn[] {
  const turns: Turn[] = [];
  for (let turn = conversation.turns[id]; turn; turn = turn.parent === null ? undefined : conversation.turns[turn.parent]) {
    turns.unshift(turn);
  }
  return turns;
}

/** With one turn more, which is shown. */
export function added(conversation: Conversation, turn: Turn): Conversation {
  const isFirst = Object.keys(conversation.turns).length === 0;
  return {
    ...conversation,
    title: isFirst && !conversation.named ? titleOf(turn.text) : conversation.title,
    changed: turn.at,
    turns: { ...conversation.turns, [turn.id]: turn },
    chosen: { ...conversation.chosen, [turn.parent ?? ""]: turn.id },
  };
}

/** With a turn changed, if it is still there. */
export function altered(conversation: Conversation, id: string, change: Partial<Turn>): Conversation {
  const turn = conversation.turns[id];
  return turn ? { ...conversation, changed: Date.now(), turns: { ...conversation.turns, [id]: { ...turn, ...change } } } : conversation;
}

/** Without a turn; one that others follow stays, or they would be lost with it. */
export function without(conversation: Conversation, id: string): Conversation {
  if (followers(conversation, id).length > 0) {
    return conversation;
  }
  const turns = { ...conversation.turns };
  delete turns[id];
  return { ...conversation, turns };
}

/** Shows a turn among its siblings. */
export function choose(conversation: Conversation, turn: Turn): Conversation {
  return { ...conversation, chosen: { ...conversation.chosen, [turn.parent ?? ""]: turn.id } };
}

/** A conversation with what another tab kept of it. What was cut off there may be whole here, and the other way round. */
export function merged(here: Conversation, there: Conversation): Conversation {
  const turns = { ...there.turns };
  for (const turn of Object.values(here.turns)) {
    const other = turns[turn.id];
    const isLess = turn.standing === "cut" && (other?.standing !== "cut" || other.text.length >= turn.text.length);
    turns[turn.id] = other && isLess ? other : turn;
  }
  const { title, named } = there.named ? there : here;
  const changed = Math.max(here.changed, there.changed);
  // Whoever waits for an answer goes on looking at it.
  const isWriting = Object.values(here.turns).some((turn) => turn.standing === "writing");
  const chosen = isWriting ? { ...there.chosen, ...here.chosen } : { ...here.chosen, ...there.chosen };
  return { ...here, title, named, changed, turns, chosen };
}

/** The first words of a text. */
export function titleOf(text: string): string {
  const line = text.trim().replace(/\s+/g, " ");
  const signs = Array.from(line);
  if (signs.length <= TITLE_LENGTH) {
    return line || "New chat";
  }
  const cut = signs.slice(0, TITLE_LENGTH).join("");
  const space = cut.lastIndexOf(" ");
  return `${space > TITLE_LENGTH / 2 ? cut.slice(0, space) : cut}…`;
}

/** What of a conversation is sent: as much as the service takes. */

import type { Message } from "../server/generate";

export interface Limits {
  messages: number;
  message_chars: number;
  conversation_chars: number;
}

/** The contract's limits, until the service has told its own. */
export const USUAL: Limits = { messages: 500, message_chars: 8000, conversation_chars: 32_000 };

export interface Fitted {
  messages: Message[];
  /** Of the oldest turns. */
  dropped: number;
  /** Messages with their middle left out. */
  shortened: number;
}

const GAP = "\n…\n";

/** Characters as the service counts them. */
export function length(text: string): number {
  let count = 0;
  for (const _ of text) {
    count += 1;
  }
  return count;
}

/** Fits a conversation: answers that are too long lose their middle, then the oldest turns go. A system message stays. */
export function fit(all: Message[], limits: Limits): Fitted {
  const system = all.filter((message) => message.role === "system");
  const said = all.filter((message) => message.role !== "system" && message.content.trim() !== "");
  const { joined, left } = alternating(said, limits.message_chars);
  let turns = joined;
  let shortened = 0;
  turns = turns.map((message, i) => {
    if (length(message.content) <= limits.message_chars || i === turns.length - 1) {
      return message;
    }
    shortened += 1;
    return { ...message, content: shorten(message.content, limits.message_chars) };
  });
  const chars = (messages: Message[]) => messages.reduce((sum, message) => sum + length(message.content), 0);
  let first = 0;
  while (
    first < turns.length - 1 &&
    (chars(system) + chars(turns.slice(first)) > limits.conversation_chars || system.length + turns.length - first > limits.messages)
  ) {
    first += 1;
    // A conversation begins with a question.
    while (first < turns.length - 1 && turns[first]?.role === "assistant") {
      first += 1;
    }
  }
  return { messages: [...system, ...turns.slice(first)], dropped: first + left, shortened };
}

/** Where an answer is missing two questions follow each other; to a model they are one, or the later one if both are too long. */
function alternating(turns: Message[], most: number): { joined: Message[]; left: number } {
  const joined: Message[] = [];
  let left = 0;
  for (const turn of turns) {
    const last = joined.at(-1);
    if (last?.role === turn.role) {
      const content = `${last.content}\n\n${turn.content}`;
      const fits = length(content) <= most;
      left += fits ? 0 : 1;
      joined[joined.length - 1] = fits ? { ...last, content } : turn;
    } else {
      joined.push(turn);
    }
  }
  return { joined, left };
}

function shorten(text: string, most: number): string {
  const signs = Array.from(text);
  const half = Math.floor((most - GAP.length) / 2);
  return signs.slice(0, half).join("") + GAP + signs.slice(-half).join("");
}

/** A file of conversations, rebuilt field by field: it may come from anywhere. */

import type { Conversation, Standing, Turn } from "./conversation";

export const KIND = "samosa-conversations";
export const VERSION = 1;
const STANDINGS: Standing[] = ["whole", "stopped", "failed", "cut"];

/** Its conversations; throws what is wrong with it. */
export function parse(file: unknown): Conversation[] {
  const { kind, version, conversations } = fields(file);
  if (kind !== KIND || !Array.isArray(conversations)) {
    throw new Error("it holds no conversations of this page");
  }
  if (version !== VERSION) {
    throw new Error(`it has version ${String(version)}, and this page reads version ${VERSION}`);
  }
  return conversations.map(conversation);
}

function conversation(value: unknown, i: number): Conversation {
  const one = fields(value);
  const turns = Object.values(fields(one["turns"])).map((turn) => turnOf(turn, i));
  const ids = new Set(turns.map((turn) => turn.id));
  if (turns.some(({ parent }) => parent !== null && !ids.has(parent))) {
    throw new Error(`conversation ${i + 1} has a message that answers none`);
  }
  checkRoots(turns, i);
  const chosen = Object.entries(fields(one["chosen"])).filter((entry): entry is [string, string] => typeof entry[1] === "string" && ids.has(entry[1]));
  return {
    id: name(one["id"], `conversation ${i + 1} has no id`),
    title: text(one["title"], `conversation ${i + 1} has no title`).slice(0, 200),
    named: one["named"] === true,
    begun: time(one["begun"]),
    changed: time(one["changed"]),
    turns: Object.fromEntries(turns.map((turn) => [turn.id, turn])),
    chosen: Object.fromEntries(chosen),
  };
}

/** Whoever goes back from a turn comes to a first one; a circle would never end. No turn is passed twice. */
function checkRoots(turns: Turn[], i: number): void {
  const byId = new Map(turns.map((one) => [one.id, one]));
  const rooted = new Set<string>();
  for (const turn of byId.values()) {
    const way = new Set<string>();
    for (let one: Turn | undefined = turn; one && !rooted.has(one.id); one = one.parent === null ? undefined : byId.get(one.parent)) {
      if (way.has(one.id)) {
        throw new Error(`conversation ${i + 1} goes in a circle`);
      }
      way.add(one.id);
    }
    way.forEach((id) => rooted.add(id));
  }
}

function turnOf(value: unknown, i: number): Turn {
  const turn = fields(value);
  const { role, parent, standing } = turn;
  if (role !== "user" && role !== "assistant") {
    throw new Error(`conversation ${i + 1} has a message of nobody`);
  }
  const figures = figuresOf(turn["figures"]);
  return {
    id: name(turn["id"], `conversation ${i + 1} has a message without id`),
    parent: typeof parent === "string" ? parent : null,
    role,
    text: typeof turn["text"] === "string" ? turn["text"] : "",
    at: time(turn["at"]),
    standing: STANDINGS.find((one) => one === standing) ?? "cut",
    ...(figures && { figures }),
  };
}

/** Figures whose every field is of its kind, or none. */
function figuresOf(value: unknown): Turn["figures"] | undefined {
  const found = fields(value);
  const names = ["prompt_tokens", "cached_tokens", "completion_tokens", "first_ms", "dropped_messages", "shortened_messages"];
  const isWhole =
    names.every((name) => typeof found[name] === "number") &&
    ["model_tag", "weights", "seed"].every((name) => typeof found[name] === "string") &&
    (found["tokens_per_second"] === null || typeof found["tokens_per_second"] === "number") &&
    (found["finish_reason"] === "stop" || found["finish_reason"] === "length");
  return isWhole ? (found as unknown as NonNullable<Turn["figures"]>) : undefined;
}

function fields(value: unknown): Record<string, unknown> {
  return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : {};
}

/** An id as this page makes them: it becomes a part of an address, and a property's name. */
function name(value: unknown, otherwise: string): string {
  const id = text(value, otherwise);
  if (/^[\w-]{1,64}$/.test(id) && !(id in Object.prototype)) {
    return id;
  }
  throw new Error(`${otherwise} of 1 to 64 letters, digits, _ and -`);
}

function text(value: unknown, otherwise: string): string {
  if (typeof value === "string" && value !== "") {
    return value;
  }
  throw new Error(otherwise);
}

function time(value: unknown): number {
  return typeof value === "number" && Number.isFinite(value) ? value : 0;
}

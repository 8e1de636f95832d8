/** The conversations of this browser: in memory while the page is open, in its IndexedDB for longer. */

import { computed, signal } from "@preact/signals";
import { createStore, del, entries, get, set } from "idb-keyval";

import { go, route } from "../shell/route";
import { type Conversation, merged, newConversation } from "./conversation";
import { leave, settle, taken } from "./leaving";

const kept = createStore("samosa", "conversations");
/** What tabs with this page tell each other of a conversation. */
interface News {
  id: string;
  gone: boolean;
  /** Turns that are being written. */
  writing: string[];
}
const tabs = new BroadcastChannel("samosa");
const tell = (news: News) => tabs.postMessage(news);
/** Turns that other tabs write, by conversation. */
const elsewhere = signal<ReadonlyMap<string, string[]>>(new Map());
/** The last change of each conversation that the database does not have yet. */
const unwritten = new Map<string, Promise<void>>();

const all = signal<Map<string, Conversation>>(new Map());
/** Whether what was kept has been read. */
export const ready = signal(false);
/** Why conversations are not kept, if they are not. */
export const trouble = signal("");

/** Those with something said in them, the latest first. */
export const conversations = computed(() => [...all.value.values()].sort((a, b) => b.changed - a.changed));

/** The one that is shown: a new one until something is said in it. */
const fresh = signal(newConversation());
export const current = computed(() => {
  const id = route.value.view === "chat" ? route.value.conversation : null;
  return (id && all.value.get(id)) || fresh.value;
});

export function find(id: string): Conversation | undefined {
  return all.value.get(id) ?? (fresh.value.id === id ? fresh.value : undefined);
}

/** An empty conversation in front. */
export function begin(): void {
  fresh.value = newConversation();
  go("#/");
}

/** Changes a conversation in memory. */
export function change(id: string, how: (conversation: Conversation) => Conversation): void {
  const before = find(id);
  if (before) {
    show(how(before));
  }
}

function show(conversation: Conversation): void {
  all.value = new Map(all.value).set(conversation.id, conversation);
  if (conversation.id === fresh.value.id) {
    fresh.value = newConversation();
  }
}

/** Writes a conversation down; other tabs are told. An answer that is being written is kept as one that was cut off. */
export async function save(id: string): Promise<void> {
  const conversation = all.value.get(id);
  if (conversation) {
    await write(id, set(id, asCut(conversation), kept));
    tell({ id, gone: false, writing: writingOf(conversation) });
  }
}

async function write(id: string, change: Promise<void>): Promise<void> {
  unwritten.set(id, change);
  try {
    await change;
    trouble.value = "";
  } catch (error) {
    notKept(error);
  }
  // The database takes changes in their order.
  if (unwritten.get(id) === change) {
    unwritten.delete(id);
    settle(id);
  }
}

function notKept(error: unknown): void {
  trouble.value = `This browser does not keep conversations: ${error instanceof Error ? error.message : String(error)}`;
}

const writingOf = ({ turns }: Conversation) => Object.values(turns).flatMap(({ id, standing }) => (standing === "writing" ? [id] : []));

function asCut(conversation: Conversation): Conversation {
  const turns = Object.values(conversation.turns).map((turn) => (turn.standing === "writing" ? { ...turn, standing: "cut" as const } : turn));
  return { ...conversation, turns: Object.fromEntries(turns.map((turn) => [turn.id, turn])) };
}

/** Changes a conversation and writes it down. */
export function amend(id: string, how: (conversation: Conversation) => Conversation): void {
  change(id, how);
  void save(id);
}

export async function remove(id: string): Promise<void> {
  forget(id);
  tell({ id, gone: true, writing: [] });
  await write(id, del(id, kept));
}

function forget(id: string): void {
  const rest = new Map(all.value);
  rest.delete(id);
  all.value = rest;
}

/** Adds conversations from a file; those that are here and were changed later stay. Says how many came. */
export async function adopt(from: Conversation[]): Promise<number> {
  const newer = from.filter((conversation) => conversation.changed > (all.value.get(conversation.id)?.changed ?? -1));
  for (const conversation of newer) {
    show(asCut(conversation));
    await save(conversation.id);
  }
  return newer.length;
}

/** Reads what was kept. */
export async function open(): Promise<void> {
  try {
    const found = (await entries<string, Conversation>(kept)).map(([, conversation]) => conversation);
    all.value = new Map([...found.map((one) => [one.id, one] as const), ...all.value]);
  } catch (error) {
    notKept(error);
  }
  for (const [id, left] of taken()) {
    if (left) {
      take(left);
      void save(id);
    } else {
      void remove(id);
    }
  }
  ready.value = true;
}

/** Shows what is known of a conversation from outside of this tab. */
function take(there: Conversation): void {
  const here = all.value.get(there.id);
  show(here ? merged(here, there) : there);
}

/** Whether another tab writes a turn. */
export const isWrittenElsewhere = (id: string, turn: string) => elsewhere.value.get(id)?.includes(turn) ?? false;

tabs.addEventListener("message", async ({ data: { id, gone, writing } }: MessageEvent<News>) => {
  elsewhere.value = new Map(elsewhere.value).set(id, writing);
  if (gone) {
    forget(id);
    if (unwritten.has(id)) {
      await write(id, del(id, kept));
    }
    return;
  }
  const there = await get<Conversation>(id, kept).catch(() => undefined);
  if (there) {
    take(there);
  }
});

/** What is done when the page goes away, before it is seen what the database does not have. */
export const beforeLeaving = new Set<() => void>();

addEventListener("pagehide", () => {
  beforeLeaving.forEach((run) => run());
  for (const id of unwritten.keys()) {
    const conversation = all.value.get(id);
    leave(id, conversation ? asCut(conversation) : null);
    tell({ id, gone: !conversation, writing: [] });
  }
});

/** The conversations of this browser: in memory while the page is open, in its IndexedDB for longer. */

import { computed, signal } from "@preact/signals";
import { createStore, del, entries, get, set } from "idb-keyval";

import { go, route } from "../shell/route";
import { type Conversation, newConversation } from "./conversation";
import { taken } from "./leaving";

const kept = createStore("samosa", "conversations");
/** Other tabs with this page. */
const tabs = new BroadcastChannel("samosa");

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
  if (!conversation) {
    return;
  }
  try {
    await set(id, asCut(conversation), kept);
    tabs.postMessage(id);
    trouble.value = "";
  } catch (error) {
    trouble.value = `This browser does not keep conversations: ${error instanceof Error ? error.message : String(error)}`;
  }
}

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
  await del(id, kept).catch(() => undefined);
  tabs.postMessage(id);
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
    trouble.value = `This browser does not keep conversations: ${error instanceof Error ? error.message : String(error)}`;
  }
  ready.value = true;
  for (const whole of [...all.value.values()].map(taken).filter((one) => one !== null)) {
    amend(whole.id, () => whole);
  }
}

/** Whether this tab writes in a conversation; then it knows better than what others kept. */
export const isWriting = (id: string) => Object.values(all.value.get(id)?.turns ?? {}).some((turn) => turn.standing === "writing");

tabs.addEventListener("message", async ({ data }: MessageEvent<string>) => {
  if (isWriting(data)) {
    return;
  }
  const conversation = await get<Conversation>(data, kept);
  if (conversation) {
    show(conversation);
  } else {
    forget(data);
  }
});

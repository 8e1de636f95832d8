/** Whether the service is there, what it serves, and its figures; asked again and again while somebody looks. */

import { computed, effect, signal } from "@preact/signals";

import { ask, Problem, read } from "./ask";
import { key } from "./key";
import type { Health, Stats } from "./stats";

/** Milliseconds between two questions. */
const CALM = 3000;
const ANXIOUS = 1000;

/** What the service said last; null before it said anything. */
export const health = signal<Health | null>(null);
/** Whether nobody answers. */
export const away = signal(false);
/** Figures; null without a key. */
export const stats = signal<Stats | null>(null);

export const model = computed(() => health.value?.current_model ?? null);

let timer: ReturnType<typeof setTimeout> | undefined;

/** Asks at once and then in its rhythm; nobody asks for a page that is not looked at. */
export function follow(): void {
  clearTimeout(timer);
  if (document.hidden) {
    return;
  }
  void look().finally(() => {
    clearTimeout(timer);
    timer = setTimeout(follow, away.value || health.value?.status !== "ok" ? ANXIOUS : CALM);
  });
}

async function look(): Promise<void> {
  try {
    health.value = await (await ask("/health")).json();
    away.value = false;
  } catch (error) {
    away.value = error instanceof Problem && error.code === "unreachable";
  }
}

/** Reads the figures once; whoever shows them asks in their own rhythm. */
export async function readStats(): Promise<Stats> {
  const now = await read<Stats>("/stats");
  stats.value = now;
  health.value = now;
  away.value = false;
  return now;
}

document.addEventListener("visibilitychange", follow);
// Limits and defaults are worth knowing as soon as there is a key.
effect(() => {
  if (key.value) {
    readStats().catch(() => undefined);
  } else {
    stats.value = null;
  }
});

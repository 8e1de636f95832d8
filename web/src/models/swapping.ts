/** Asking for another model, and following the swap that runs, whoever began it. */

import { computed, signal } from "@preact/signals";

import { ask, Problem, read } from "../server/ask";
import { readStats, stats } from "../server/pulse";
import type { Models } from "../server/stats";

/** Milliseconds between two looks while a swap runs, and otherwise. */
const CLOSE = 300;
const CALM = 3000;

/** What can be served; null before it is known. */
export const catalog = signal<Models | null>(null);
/** Why the catalog or a swap was refused. */
export const refusal = signal<Problem | null>(null);

/** The swap that runs, or the old engines' end after it; else the last one. */
export const latest = computed(() => stats.value?.swap.history[0] ?? null);
export const isRunning = computed(() => ["running", "live"].includes(latest.value?.outcome ?? ""));

/** Looks again and again until it is told to end. */
export function follow(): () => void {
  let timer: ReturnType<typeof setTimeout>;
  let ended = false;
  let seen = "";
  const look = async () => {
    try {
      if (!document.hidden) {
        const now = await readStats();
        // Whenever a swap ends, another model may be the one that serves.
        const mark = `${now.current_model} ${now.swap.history[0]?.swap_id} ${now.swap.history[0]?.outcome}`;
        if (mark !== seen) {
          seen = mark;
          catalog.value = await read<Models>("/models");
        }
        refusal.value = refusal.value?.code === "unreachable" ? null : refusal.value;
      }
    } catch (error) {
      refusal.value = error instanceof Problem ? error : null;
    }
    if (!ended) {
      timer = setTimeout(look, isRunning.value ? CLOSE : CALM);
    }
  };
  void look();
  return () => {
    ended = true;
    clearTimeout(timer);
  };
}

/** Asks for a model in the place of the one that serves now, and does not wait for it. */
export async function swapTo(tag: string): Promise<void> {
  refusal.value = null;
  const headers = new Headers({ "Content-Type": "application/json", Prefer: "wait=0" });
  const serving = stats.value?.model?.sha256;
  if (serving) {
    headers.set("If-Match", `"${serving}"`);
  }
  try {
    await ask("/models/swap", { method: "POST", headers, body: JSON.stringify({ model_tag: tag }) });
  } catch (error) {
    refusal.value = error instanceof Problem ? error : null;
  }
  await readStats().catch(() => undefined);
}

/** What can be done about a refusal, where the service's own sentence does not say. */
export function advice(problem: Problem): string {
  switch (problem.status) {
    case 403:
      return "Forget the key (at the top right) and give an admin key.";
    case 409:
      return "Wait for it to end, then ask again.";
    case 412:
      return "Somebody else swapped in the meantime; look at what serves now.";
    default:
      return "";
  }
}

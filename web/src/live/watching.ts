/** The figures of a service, once a second, for as long as somebody looks. */

import { signal } from "@preact/signals";

import { Problem, read } from "../server/ask";
import { away, readStats } from "../server/pulse";
import type { History, Stats } from "../server/stats";
import { merged } from "./history";

const EVERY_MS = 1000;

export const history = signal<History | null>(null);
/** The figures that are shown; they stand still while it is paused. */
export const figures = signal<Stats | null>(null);
export const paused = signal(false);
/** Why there are none, if the service answered and gave none. */
export const trouble = signal("");

/** Looks until it is told to end. */
export function watch(): () => void {
  let timer: ReturnType<typeof setTimeout>;
  let ended = false;
  const look = async () => {
    if (!document.hidden && !paused.value) {
      await take();
    }
    if (!ended) {
      timer = setTimeout(look, EVERY_MS);
    }
  };
  void look();
  return () => {
    ended = true;
    clearTimeout(timer);
  };
}

async function take(): Promise<void> {
  try {
    const since = history.value?.samples.at.at(-1);
    const [now, more] = await Promise.all([readStats(), read<History>(since === undefined ? "/stats/history" : `/stats/history?since=${since}`)]);
    figures.value = now;
    history.value = merged(history.value, more);
    trouble.value = "";
  } catch (error) {
    if (error instanceof Problem && error.code === "unreachable") {
      away.value = true;
    } else {
      trouble.value = error instanceof Error ? error.message : String(error);
    }
  }
}

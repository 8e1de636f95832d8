/** Waits until something is so, and says what never came about. Nothing here waits for a time. */

import { setTimeout as pause } from "node:timers/promises";

const LOOK_MS = 20;

/** The first answer that is neither false nor empty. What is thrown meanwhile is no answer. */
export async function until(what, look, limitMs = 60_000) {
  const end = performance.now() + limitMs;
  let reason = "";
  while (performance.now() < end) {
    try {
      const found = await look();
      if (found) {
        return found;
      }
      reason = "";
    } catch (error) {
      reason = `: ${error.message}`;
    }
    await pause(LOOK_MS);
  }
  throw new Error(`waited ${limitMs / 1000} s in vain for ${what}${reason}`);
}

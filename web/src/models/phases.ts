/** The phases of a swap, in words and in their order. */

import type { Swap } from "../server/stats";

const OVERLAP = ["resolve", "download", "verify", "load", "selftest", "cutover", "drain", "free"];
const SERIAL = ["resolve", "download", "verify", "drain", "free", "load", "selftest", "cutover"];

export const PHASES: Record<string, string> = {
  resolve: "Find it",
  download: "Fetch it",
  verify: "Check the files",
  load: "Load the weights",
  selftest: "Test it",
  cutover: "Switch over",
  drain: "Let the old one finish",
  free: "Free its memory",
  restore: "Bring the old one back",
};

export type State = "done" | "running" | "failed" | "waiting";

export interface Step {
  phase: string;
  state: State;
  seconds: number | null;
}

/** Where a swap is: what is over, what runs or failed, what is still to come. */
export function steps(swap: Swap): Step[] {
  const isOver = !["running", "live"].includes(swap.outcome);
  const order = [...(swap.mode === "serial" ? SERIAL : OVERLAP)];
  if (swap.phase === "restore" || "restore" in swap.phase_seconds) {
    order.push("restore");
  }
  const failedAt = swap.reason === null ? null : failedPhase(swap, order);
  return order
    .map((phase): Step => {
      const seconds = swap.phase_seconds[phase] ?? null;
      if (phase === failedAt) {
        return { phase, state: "failed", seconds };
      }
      if (phase === swap.phase && !isOver) {
        return { phase, state: "running", seconds: null };
      }
      return { phase, state: seconds === null ? "waiting" : "done", seconds };
    })
    .filter(({ state }) => !isOver || state !== "waiting");
}

/** The phase that went wrong: before a return to the old model, the last one in its order that was entered. */
function failedPhase(swap: Swap, order: string[]): string {
  if (swap.phase !== "restore") {
    return swap.phase;
  }
  return order.findLast((phase) => phase !== "restore" && phase in swap.phase_seconds) ?? "load";
}

/** What came of a swap, in a word or two and with its tone. */
export function outcome(swap: Swap): { word: string; tone: "good" | "bad" | "busy" } {
  switch (swap.outcome) {
    case "running":
      return { word: "under way", tone: "busy" };
    case "live":
      return { word: "live, the old one finishes", tone: "busy" };
    case "ok":
      return { word: "live", tone: "good" };
    case "restored":
      return { word: "failed, the old one is back", tone: "bad" };
    case "lost":
      return { word: "failed, nothing serves", tone: "bad" };
    default:
      return { word: "failed", tone: "bad" };
  }
}

/** What happens now, in a sentence. */
export function sentence(swap: Swap, retired: number): string {
  const { target_model: target, previous_model: previous } = swap;
  switch (swap.outcome) {
    case "running":
      return swap.mode === "serial"
        ? `There is no room for both, so ${previous ?? "the old model"} finishes first and new questions wait a moment for ${target}.`
        : previous
          ? `${previous} answers on until ${target} is ready.`
          : `${target} is on its way; until it is there nobody answers.`;
    case "live":
      return `${target} answers now${previous && retired > 0 ? `, while ${previous} finishes what it began` : ""}.`;
    case "ok":
      return `${target} answers now.`;
    case "restored":
      return `${target} did not come up; ${previous ?? "the old model"} was loaded again and answers.`;
    case "lost":
      return `${target} did not come up, and the old model could not be loaded again. Nothing serves until the next swap.`;
    default:
      return previous ? `${target} did not come up; ${previous} answers as before.` : `${target} did not come up.`;
  }
}

/** Seconds of all phases together. */
export function total(swap: Swap): number {
  return Object.values(swap.phase_seconds).reduce((sum, seconds) => sum + seconds, 0);
}

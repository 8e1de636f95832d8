import { expect, test } from "vitest";

import type { Swap } from "../server/stats";
import { outcome, sentence, steps, total } from "./phases";

const swap = (fields: Partial<Swap>): Swap => ({
  swap_id: 2,
  target_model: "new",
  previous_model: "old",
  mode: "overlap",
  started: 0,
  phase: "load",
  phase_seconds: { resolve: 0.1, download: 0, verify: 0.4 },
  outcome: "running",
  reason: null,
  identity: null,
  download: null,
  ...fields,
});

const states = (one: Swap) => steps(one).map(({ phase, state }) => `${phase} ${state}`);

test("a swap under way shows what is over, what runs and what comes", () => {
  expect(states(swap({}))).toEqual([
    "resolve done",
    "download done",
    "verify done",
    "load running",
    "selftest waiting",
    "cutover waiting",
    "drain waiting",
    "free waiting",
  ]);
  expect(states(swap({ mode: "serial", phase: "drain" }))[3]).toBe("drain running");
});

test("a swap that failed shows where, and no more", () => {
  expect(states(swap({ outcome: "failed", reason: "it is broken" }))).toEqual(["resolve done", "download done", "verify done", "load failed"]);
  const back = swap({ mode: "serial", outcome: "restored", phase: "restore", reason: "no", phase_seconds: { resolve: 1, download: 0, verify: 1, drain: 1, free: 1, load: 2, restore: 3 } });
  expect(states(back).slice(-2)).toEqual(["load failed", "restore done"]);
});

test("every outcome has its words", () => {
  for (const name of ["running", "live", "ok", "failed", "restored", "lost"]) {
    expect(outcome(swap({ outcome: name })).word).not.toBe("");
    expect(sentence(swap({ outcome: name }), 1)).toMatch(/\.$/);
    expect(sentence(swap({ outcome: name, previous_model: null }), 0)).not.toMatch(/null|undefined/);
  }
  expect(total(swap({}))).toBeCloseTo(0.5);
});

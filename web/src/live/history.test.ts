import { expect, test } from "vitest";

import type { History } from "../server/stats";
import { merged, windowed } from "./history";

const history = (at: number[], running: (number | null)[]): History => ({ interval_s: 1, now: at.at(-1) ?? 0, samples: { at, running }, swaps: [] });

test("what is new comes behind what is known, once", () => {
  const both = merged(history([1, 2, 3], [1, 2, 3]), history([3, 4], [9, 4]));
  expect(both.samples).toEqual({ at: [1, 2, 3, 4], running: [1, 2, 3, 4] });
  expect(merged(both, history([], [])).samples.at).toEqual([1, 2, 3, 4]);
  expect(merged(null, both)).toBe(both);
});

test("half an hour is kept", () => {
  const long = Array.from({ length: 1800 }, (_, i) => i);
  const both = merged(history(long, long), history([1800, 1801], [0, 0]));
  expect([both.samples.at.length, both.samples.at[0], both.samples["running"]?.length]).toEqual([1800, 2, 1800]);
});

test("a figure that is new to an older service has no past", () => {
  const both = merged({ ...history([1], [1]) }, { ...history([2], [2]), samples: { at: [2], running: [2], queued: [7] } });
  expect(both.samples["queued"]).toEqual([null, 7]);
});

test("a window begins where it begins, and gaps are gaps", () => {
  const one = history([10, 11, 40, 41], [1, 2, 3, 4]);
  expect(windowed(one, 100, ["running"])).toEqual([
    [10, 11, 12, 40, 41],
    [1, 2, null, 3, 4],
  ]);
  expect(windowed(one, 2, ["running", "nothing"])).toEqual([
    [40, 41],
    [3, 4],
    [null, null],
  ]);
  expect(windowed(history([], []), 60, ["running"])).toEqual([[], []]);
});

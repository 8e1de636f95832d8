import { expect, test } from "vitest";

import { segments } from "./segments";

const TOOL = "<|python_start|>12*7<|python_end|><|output_start|>84<|output_end|>";

test("what the calculator did is a part of its own", () => {
  expect(segments(`So: ${TOOL}12 * 7 is 84.`)).toEqual([
    { kind: "text", text: "So: " },
    { kind: "tool", expression: "12*7", result: "84", open: false },
    { kind: "text", text: "12 * 7 is 84." },
  ]);
  expect(segments(TOOL + TOOL)).toHaveLength(2);
  expect(segments("<|output_start|>5<|output_end|>")).toEqual([{ kind: "tool", expression: "", result: "5", open: false }]);
});

test("thoughts are folded, finished or not", () => {
  expect(segments("<think>hm</think>Yes.")).toEqual([
    { kind: "thoughts", text: "hm", open: false },
    { kind: "text", text: "Yes." },
  ]);
  expect(segments("<think>hm")).toEqual([{ kind: "thoughts", text: "hm", open: true }]);
});

test("cut anywhere, an answer shows no part of a marker", () => {
  const whole = `A ${TOOL} b <think>c</think> d`;
  for (let end = 0; end <= whole.length; end += 1) {
    for (const part of segments(whole.slice(0, end))) {
      const shown = part.kind === "tool" ? part.expression + (part.result ?? "") : part.text;
      expect(shown, whole.slice(0, end)).not.toMatch(/<[|/t]?|\|>/);
    }
  }
});

test("signs that begin no marker stay", () => {
  expect(segments("1 < 2")).toEqual([{ kind: "text", text: "1 < 2" }]);
  expect(segments("a <b")).toEqual([{ kind: "text", text: "a <b" }]);
});

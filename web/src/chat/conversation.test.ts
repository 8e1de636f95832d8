import { expect, test } from "vitest";

import { added, altered, choose, followers, merged, newConversation, path, titleOf, type Turn, upTo, without } from "./conversation";

const turn = (id: string, parent: string | null, at: number): Turn => ({
  id,
  parent,
  role: id.startsWith("q") ? "user" : "assistant",
  text: id,
  at,
  standing: "whole",
});

const ids = (turns: Turn[]) => turns.map(({ id }) => id);

/** Two questions with answers; the first question said in two ways, its first form answered twice. */
const branched = [turn("q1", null, 1), turn("a1", "q1", 2), turn("q2", "a1", 3), turn("a2", "q2", 4), turn("a1b", "q1", 5), turn("q1b", null, 6)].reduce(
  added,
  newConversation(0),
);

test("what came last is shown, and every branch can be", () => {
  expect(ids(path(branched))).toEqual(["q1b"]);
  const first = choose(branched, branched.turns["q1"]!);
  expect(ids(path(first))).toEqual(["q1", "a1b"]);
  expect(ids(path(choose(first, branched.turns["a1"]!)))).toEqual(["q1", "a1", "q2", "a2"]);
  expect(ids(followers(branched, null))).toEqual(["q1", "q1b"]);
});

test("a model is told the way to a turn and nothing beside it", () => {
  expect(ids(upTo(branched, "q2"))).toEqual(["q1", "a1", "q2"]);
  expect(ids(upTo(branched, "nobody"))).toEqual([]);
});

test("changes leave what was there as it was", () => {
  const changed = altered(branched, "a2", { text: "new" });
  expect([changed.turns["a2"]?.text, branched.turns["a2"]?.text]).toEqual(["new", "a2"]);
  expect(altered(branched, "nobody", { text: "new" })).toBe(branched);
  expect(ids(path(without(choose(branched, branched.turns["q1"]!), "a1b")))).toEqual(["q1", "a1", "q2", "a2"]);
});

test("the first words are the title, until somebody names it", () => {
  expect(branched.title).toBe("q1");
  expect(titleOf("  \n ")).toBe("New chat");
  expect(titleOf(`${"word ".repeat(30)}`)).toMatch(/^(word ){10,11}word…$/);
  expect(titleOf("x".repeat(90))).toBe(`${"x".repeat(60)}…`);
});

test("a turn that others follow is not taken out from under them", () => {
  expect(without(branched, "a1")).toBe(branched);
  expect(path(choose(without(branched, "a1"), branched.turns["q1"]!))).not.toEqual([]);
});

test("two tabs that write in one conversation lose nothing of each other", () => {
  const writing = { ...turn("a2b", "q2", 7), standing: "writing" as const };
  const here = added(branched, writing);
  const there = [{ ...writing, standing: "cut" as const }, turn("q3", "a2", 8)].reduce(added, branched);
  const both = merged(here, there);
  expect(both.turns["a2b"]).toBe(writing);
  expect(both.turns["q3"]).toBeDefined();
  expect(both.chosen["q2"]).toBe("a2b");
  const whole = altered(here, "a2b", { standing: "whole", text: "all of it" });
  expect(merged(there, whole).turns["a2b"]?.text).toBe("all of it");
  expect(merged(whole, there).turns["a2b"]?.text).toBe("all of it");
});

test("no title ends in half a sign", () => {
  expect(titleOf("🥟".repeat(70))).toBe(`${"🥟".repeat(60)}…`);
});

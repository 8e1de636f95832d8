import { expect, test } from "vitest";

import { added, newConversation, type Turn } from "./conversation";
import { KIND, parse, VERSION } from "./parse";

const q: Turn = { id: "q", parent: null, role: "user", text: "Hi", at: 1, standing: "whole" };
const a: Turn = { id: "a", parent: "q", role: "assistant", text: "Hello", at: 2, standing: "stopped" };
const conversation = [q, a].reduce(added, newConversation(0));
const file = (...conversations: unknown[]) => JSON.parse(JSON.stringify({ kind: KIND, version: VERSION, conversations }));

test("what was exported comes back", () => {
  expect(parse(file(conversation))).toEqual([conversation]);
});

test("what is wrong is said", () => {
  expect(() => parse([])).toThrow("no conversations of this page");
  expect(() => parse({ ...file(), version: 9 })).toThrow("version 9");
  expect(() => parse(file({ ...conversation, id: "" }))).toThrow("conversation 1 has no id");
  expect(() => parse(file({ ...conversation, turns: { a } }))).toThrow("answers none");
  expect(() => parse(file({ ...conversation, turns: { q: { ...q, role: "system" } } }))).toThrow("of nobody");
  const circle = { q: { ...q, parent: "a" }, a };
  expect(() => parse(file({ ...conversation, turns: circle }))).toThrow("circle");
});

test("fields of the wrong kind do not come in", () => {
  const odd = { ...a, at: "now", standing: "writing", figures: { model_tag: 7 }, extra: "<b>", fault: { detail: "x" } };
  const [read] = parse(file({ ...conversation, turns: { q, a: odd }, chosen: { "": "gone", q: "a" } }));
  expect(read?.turns["a"]).toEqual({ ...a, at: 0, standing: "cut" });
  expect(read?.chosen).toEqual({ q: "a" });
});

test("ids that are no part of an address or the name of something else do not come in", () => {
  for (const id of ["a/b", "x y", "constructor", "__proto__", "i".repeat(65)]) {
    expect(() => parse(file({ ...conversation, id }))).toThrow("no id");
    expect(() => parse(file({ ...conversation, turns: { q: { ...q, id } } }))).toThrow("without id");
  }
});

test("a long conversation is read in one go", () => {
  const turns = Array.from({ length: 20_000 }, (_, i) => ({ ...q, id: `t${i}`, parent: i === 0 ? null : `t${i - 1}` }));
  const began = performance.now();
  parse(file({ ...conversation, turns, chosen: {} }));
  expect(performance.now() - began).toBeLessThan(2000);
});

import { expect, test } from "vitest";

import type { Message } from "../server/generate";
import { fit, length } from "./fit";

const LIMITS = { messages: 5, message_chars: 20, conversation_chars: 50 };
const user = (content: string): Message => ({ role: "user", content });
const model = (content: string): Message => ({ role: "assistant", content });

test("what fits is sent as it is", () => {
  const all = [user("a"), model("b"), user("c")];
  expect(fit(all, LIMITS)).toEqual({ messages: all, dropped: 0, shortened: 0 });
});

test("the oldest turns go, a question comes first, and the system message stays", () => {
  const system: Message = { role: "system", content: "s" };
  const all = [system, user("1".repeat(15)), model("2".repeat(15)), user("3".repeat(15)), model("4".repeat(15)), user("5".repeat(15))];
  const { messages, dropped } = fit(all, LIMITS);
  expect(messages).toEqual([system, ...all.slice(3)]);
  expect(dropped).toBe(2);
  expect(fit(Array.from({ length: 9 }, (_, i) => (i % 2 ? model("x") : user("y"))), LIMITS).messages).toHaveLength(5);
});

test("long answers lose their middle, and the last question is never touched", () => {
  const { messages, shortened } = fit([user("a"), model("é".repeat(30)), user("b".repeat(30))], { ...LIMITS, conversation_chars: 100 });
  expect(length(messages[1]!.content)).toBeLessThanOrEqual(20);
  expect(messages[1]!.content).toContain("…");
  expect(messages[2]!.content).toHaveLength(30);
  expect(shortened).toBe(1);
});

test("questions without an answer become one", () => {
  expect(fit([user("a"), model(" "), user("b")], LIMITS).messages).toEqual([user("a\n\nb")]);
});

test("characters are counted as the service counts them", () => {
  expect(length("a🥟é")).toBe(3);
});

test("two questions that are too long together do not become one that is refused", () => {
  const { messages, dropped } = fit([user("a".repeat(15)), user("b".repeat(15))], LIMITS);
  expect(messages).toEqual([user("b".repeat(15))]);
  expect(dropped).toBe(1);
});

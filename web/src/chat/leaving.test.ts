import { expect, test, vi } from "vitest";

import { newConversation } from "./conversation";
import { leave, settle, taken } from "./leaving";

/** A store whose names are its own properties, as those of a browser are. */
function storage(gone: string[] = []) {
  const methods = {
    getItem: (name: string) => (gone.includes(name) ? null : (Reflect.get(store, name) ?? null)),
    setItem: (name: string, text: string) => Reflect.set(store, name, text),
    removeItem: (name: string) => Reflect.deleteProperty(store, name),
  };
  const store: object = Object.create(methods);
  vi.stubGlobal("localStorage", store);
  return store;
}

test("what was left is taken once, a deletion too, and what the database has by now is not", () => {
  storage();
  const conversation = newConversation();
  leave(conversation.id, conversation);
  leave("gone", null);
  leave("kept", conversation);
  settle("kept");
  expect(taken()).toEqual([
    [conversation.id, conversation],
    ["gone", null],
  ]);
  expect(taken()).toEqual([]);
});

test("what another tab took in the same moment is not taken for a deletion", () => {
  storage(["samosa.left.a"]);
  leave("a", newConversation());
  expect(taken()).toEqual([]);
});

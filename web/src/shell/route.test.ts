import { beforeEach, expect, test, vi } from "vitest";

beforeEach(() => {
  vi.stubGlobal("addEventListener", () => undefined);
});

async function at(hash: string) {
  vi.resetModules();
  vi.stubGlobal("location", { hash });
  const { lastChat, route } = await import("./route");
  return { view: route.value, link: lastChat.value };
}

test("places are told apart", async () => {
  expect(await at("")).toEqual({ view: { view: "chat", conversation: null }, link: "#/" });
  expect(await at("#/c/x1")).toEqual({ view: { view: "chat", conversation: "x1" }, link: "#/c/x1" });
});

test.each(["#key=secret", "#key=a/models/b", "#key=a/c/b"])("a key is no place, and no link holds it: %s", async (hash) => {
  expect(await at(hash)).toEqual({ view: { view: "chat", conversation: null }, link: "#/" });
});

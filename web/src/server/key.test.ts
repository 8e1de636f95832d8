import { beforeEach, expect, test, vi } from "vitest";

const store = (entries: Record<string, string> = {}) => {
  const kept = new Map(Object.entries(entries));
  return {
    kept,
    getItem: (name: string) => kept.get(name) ?? null,
    setItem: (name: string, text: string) => kept.set(name, text),
    removeItem: (name: string) => kept.delete(name),
  };
};

beforeEach(() => {
  vi.resetModules();
  vi.stubGlobal("addEventListener", () => undefined);
  vi.stubGlobal("history", { state: null, replaceState: () => undefined });
});

async function opened(hash: string, sessionStorage: unknown = store()) {
  vi.stubGlobal("location", { hash, pathname: "/", search: "" });
  vi.stubGlobal("sessionStorage", sessionStorage);
  return import("./key");
}

test("a key comes with the address, however it is written", async () => {
  expect((await opened("#key=a%2Bb%20")).key.value).toBe("a+b");
  vi.resetModules();
  expect((await opened("#key=50%")).key.value).toBe("50%");
});

test.each(["#key=%D0%BA", "#key=a%0Ab", "#key=a%E2%80%8B"])("what no header can carry is no key: %s", async (hash) => {
  const { keep, key, refusal } = await opened(hash);
  expect(key.value).toBe("");
  expect(refusal.value).toContain("Copy it once more");
  keep("a\u200b");
  expect(key.value).toBe("");
  expect(refusal.value).toContain("Copy it once more");
});

test("a refusal that comes late does not take the key that was given since", async () => {
  const { keep, key, refusal, refuse } = await opened("#key=old");
  refuse("old", "Not taken.");
  refuse("old", "");
  expect(refusal.value).toBe("Not taken.");
  keep("new");
  refuse("old", "Not taken.");
  expect(key.value).toBe("new");
});

test("where a browser keeps nothing, a key lasts as long as the page", async () => {
  const denied = () => {
    throw new Error("denied");
  };
  const { keep, key } = await opened("#key=k", { getItem: denied, setItem: denied, removeItem: denied });
  expect(key.value).toBe("k");
  keep("other");
  expect(key.value).toBe("other");
});

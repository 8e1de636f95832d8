/** Everybody gets everywhere: phones, the dark, keyboards, screen readers. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

import { answers, ask, AT_LENGTH, button, choose, list, message, questions, say, status, STORY, whole, wording } from "./support/chat.mjs";
import { expect } from "./support/expect.mjs";
import { KEY, scene } from "./support/scene.mjs";
import { SLOW } from "./support/server.mjs";
import { until } from "./support/until.mjs";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const PHONE = { viewport: { width: 390, height: 844 }, hasTouch: true, isMobile: true };
const VIEWS = [`/#key=${KEY}`, "/#/models", "/#/live", "/docs"];

/** What axe finds serious, as lines to read. The page's policy would not let it in by itself. */
async function serious(page, where) {
  const session = await page.context().newCDPSession(page);
  await session.send("Runtime.evaluate", { expression: AXE });
  const { violations } = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
  return violations.filter(({ impact }) => ["serious", "critical"].includes(impact)).map(({ id, nodes }) => `${where}: ${id}: ${nodes.map(({ html }) => html.slice(0, 120)).join(" | ")}`);
}

/** Every view with something in it, one after the other. */
async function everywhere(page, url, look) {
  await page.goto(url + VIEWS[0]);
  await ask(page, "What is 12 * 7?");
  await button(page, "Settings").click();
  await look("chat");
  for (const path of VIEWS.slice(1)) {
    await page.goto(url + path);
    await page.getByRole("heading", { level: 1 }).waitFor();
    if (path === "/#/live") {
      await page.locator("canvas").first().waitFor();
    }
    await page.evaluate(() => document.fonts.ready);
    await look(path);
  }
}

for (const [name, context] of [
  ["in the light", { colorScheme: "light" }],
  ["in the dark", { colorScheme: "dark" }],
  ["on a phone", PHONE],
]) {
  scene(`axe finds nothing serious ${name}`, { context: { ...context, bypassCSP: false } }, async ({ page, server }) => {
    const found = [];
    await everywhere(page, server.url, async (where) => found.push(...(await serious(page, where))));
    await page.evaluate(() => sessionStorage.clear());
    await page.goto(server.url);
    await page.reload();
    await page.getByRole("dialog").waitFor();
    found.push(...(await serious(page, "the key")));
    assert.deepEqual(found, []);
  });
}

scene("a phone has everything, and nothing is wider than it", { context: PHONE }, async ({ page, visit, server }) => {
  await visit();
  await ask(page, "What is samosa chaat?");
  await button(page, "Conversations").tap();
  const drawer = page.getByRole("dialog", { name: "Conversations" });
  await button(drawer, "New chat").tap();
  await expect.count(page.getByRole("dialog", { name: "Conversations" }), 0);
  await ask(page, "What is 12 * 7?");
  await button(page, "Conversations").tap();
  await list(page).getByRole("link", { name: "What is samosa chaat?" }).tap();
  await expect.text(questions(page), "What is samosa chaat?");
  await everywhere(page, server.url, async (where) => {
    const { width, seen } = await page.evaluate(() => ({ width: document.documentElement.scrollWidth, seen: document.documentElement.clientWidth }));
    assert.ok(width <= seen, `${where} is ${width} wide, and ${seen} are seen`);
  });
});

scene("the dark follows the system until somebody chooses, and the choice stays", { context: { colorScheme: "dark" } }, async ({ page, visit }) => {
  await visit();
  const theme = () => page.evaluate(() => document.documentElement.dataset.theme);
  await expect.is("the theme", theme, "dark");
  await page.emulateMedia({ colorScheme: "light" });
  await expect.is("the theme", theme, "light");
  const colours = page.getByRole("button", { name: /^Colours:/ });
  await colours.click();
  await colours.click();
  await expect.is("the theme", theme, "dark");
  await page.reload();
  await expect.is("the theme", theme, "dark");
});

scene("a keyboard alone does it all, and the focus is never lost", { server: "slow", settings: SLOW }, async ({ page, visit }) => {
  await visit();
  await choose(page, AT_LENGTH);
  await message(page).focus();
  await page.keyboard.type("Two lines");
  await page.keyboard.press("Shift+Enter");
  await page.keyboard.type("of text");
  await expect.value(message(page), "Two lines\nof text");
  await page.keyboard.press("Control+A");
  await page.keyboard.type(STORY);
  await page.keyboard.press("Enter");
  await expect.text(status(page), "Writing…");
  await expect.focused(message(page));
  await until("some words", async () => (await wording(answers(page).last())).length > 10);
  await page.keyboard.press("Escape");
  await expect.text(status(page), "Stopped.");
  await expect.focused(message(page));

  const reached = new Set();
  const focused = () => page.evaluate(() => document.activeElement?.getAttribute("aria-label") ?? document.activeElement?.textContent?.trim() ?? "");
  await page.evaluate(() => document.activeElement?.blur());
  for (let i = 0; i < 40; i += 1) {
    await page.keyboard.press("Tab");
    reached.add(await focused());
  }
  for (const name of ["To the content", "Chat", "Models", "Live", "API", "New chat", "Export all", "Import", "Copy answer", "Regenerate", "Edit message", "Message", "Settings", "Forget the key"]) {
    assert.ok([...reached].some((one) => one.startsWith(name)), `${name} is not among ${[...reached].join(", ")}`);
  }

  await button(page, `Delete ${STORY}`).focus();
  await page.keyboard.press("Enter");
  await expect.is("the focus", focused, "Keep");
  await page.keyboard.press("Escape");
  await button(page, `Delete ${STORY}`).focus();
  await page.keyboard.press("Enter");
  await expect.is("the focus", focused, "Keep");
  await page.keyboard.press("Tab");
  await page.keyboard.press("Enter");
  await expect.focused(message(page));
  await page.keyboard.type("What is 12 * 7?");
  await page.keyboard.press("Enter");
  await whole(page);
});

/** When things go wrong: sentences, what was there stays, and a way on. */

import assert from "node:assert/strict";

import { answers, ask, AT_LENGTH, button, choose, message, questions, say, STORY, whole, wording } from "./support/chat.mjs";
import { expect } from "./support/expect.mjs";
import { KEY, scene } from "./support/scene.mjs";
import { FULL, SLOW } from "./support/server.mjs";
import { until } from "./support/until.mjs";

const GONE = [/ERR_|Failed to fetch|network error/i];
const notice = (page) => answers(page).last().getByRole("alert");
const again = (page) => notice(page).getByRole("button");

scene("a full queue says when to come back, and the button waits until then", { own: true, settings: FULL, logs: [/status of 503/] }, async ({ page, visit, server }) => {
  await visit();
  const body = (max_tokens) => JSON.stringify({ messages: [{ role: "user", content: STORY }], max_tokens, temperature: 2 });
  const others = [];
  // One that runs for long, and only then one that waits; the less it wants, the sooner the server says to come back.
  for (const [tokens, full] of [
    [300, ({ running }) => running === 1],
    [1, ({ queue }) => queue.requests === 1],
  ]) {
    others.push(server.ask("/generate", { method: "POST", headers: { "X-Seed": "7" }, body: body(tokens) }));
    await until("its place to be taken", async () => full(await server.stats()));
  }
  await say(page, "What is 12 * 7?");
  // Both at once: it may be over a moment later.
  const seconds = await until("when to come back", () => again(page).evaluate(({ disabled, innerText }) => disabled && innerText.match(/Try again in (\d+) s/)?.[1]));
  const began = performance.now();
  await expect.text(notice(page), /queue/i);
  await Promise.all(others.map(async (other) => (await other).body.cancel()));
  await expect.text(again(page), "Try again", (Number(seconds) + 15) * 1000);
  assert.ok(performance.now() - began > (Number(seconds) - 1.5) * 1000, "it waits as long as it says");
  await again(page).click();
  await expect.text(await whole(page), /84/);
  await expect.count(answers(page), 1);
});

scene("a server that goes away in the middle of an answer leaves what was written, and is noticed when it is back", { own: true, settings: SLOW, proxied: true, logs: GONE }, async ({ page, visit, proxy }) => {
  await visit();
  await choose(page, AT_LENGTH);
  await say(page, STORY);
  await until("some words", async () => (await wording(answers(page).last())).length > 20);
  await proxy.close();
  await expect.text(notice(page), /broke/);
  const partial = await wording(answers(page).last());
  assert.ok(partial.length > 20);
  await expect.text(page.locator(".serving"), /not reachable/);
  await say(page, "Are you there?");
  await expect.text(notice(page), /cannot be reached/);
  await proxy.open();
  await expect.text(page.locator(".serving"), /samosa-mini/);
  await expect.text(notice(page), /there again/);
  await choose(page, { "Longest answer": "5" });
  await again(page).click();
  await whole(page);
  await expect.count(questions(page), 2);
  await page.reload();
  await expect.is("the partial answer", () => wording(answers(page).first()), partial);
});

scene("a server with another key asks for it, and the conversation goes on", { own: true, logs: [/status of 401/, ...GONE] }, async ({ page, visit, server }) => {
  await visit();
  await ask(page, "What is 12 * 7?");
  await server.restart("another-key");
  await say(page, "What is samosa chaat?");
  const dialog = page.getByRole("dialog");
  await expect.text(dialog.getByRole("alert"), /did not take that key/);
  await dialog.getByLabel("Key", { exact: true }).fill("another-key");
  await page.keyboard.press("Enter");
  await again(page).click();
  await whole(page);
  await expect.count(answers(page), 2);
  assert.ok(!server.log().includes(KEY));
});

scene("a message that is too long is counted and not sent", { proxied: true }, async ({ page, visit, proxy }) => {
  await visit();
  await message(page).fill("word ".repeat(1601));
  await expect.text(page.locator("#composer-count"), /8.005 of 8.000 characters/);
  assert.ok(await button(page, "Send").isDisabled());
  await message(page).press("Enter");
  assert.equal(proxy.requests.filter(({ url }) => url === "/generate").length, 0);
  await message(page).fill("What is 12 * 7?");
  await message(page).press("Enter");
  await whole(page);
});

scene("what is refused for good is not offered again", { logs: [/status of 400/] }, async ({ page, visit }) => {
  await visit();
  await say(page, "W".repeat(4000));
  await expect.text(notice(page), /too long/);
  assert.equal(await again(page).count(), 0);
  await button(questions(page), "Edit message").click();
  await page.getByRole("textbox", { name: "Edit message" }).fill("What is 12 * 7?");
  await page.keyboard.press("Enter");
  await whole(page);
});

scene("a conversation that is longer than the context says how much was left out", {}, async ({ page, visit }) => {
  await visit();
  await choose(page, { "Longest answer": "20", Temperature: "0" });
  for (let i = 0; i < 3; i += 1) {
    await ask(page, `${i}: ${"a long way round about the market square and back ".repeat(14)}`);
  }
  await expect.text(answers(page).last().locator(".answer-figures"), /dropped/);
});

/** Weights are exchanged while people chat. */

import assert from "node:assert/strict";

import { answers, ask, AT_LENGTH, button, choose, message, say, status, STORY, whole, wording } from "./support/chat.mjs";
import { expect } from "./support/expect.mjs";
import { scene } from "./support/scene.mjs";
import { BROKEN, BUILT_IN, OTHERS, SLOW } from "./support/server.mjs";
import { until } from "./support/until.mjs";

const OWN = { own: true, settings: SLOW };
const [OTHER] = OTHERS;

/** Goes to another view by the header, as a reader does. */
const view = (page, name) => page.getByRole("navigation", { name: "Views" }).getByRole("link", { name }).click();
const serving = (page) => page.locator(".serving");
const history = (page) => page.getByRole("table", { name: "History of swaps" }).getByRole("row");

async function swap(page, tag) {
  await button(page, `Swap to ${tag}`).click();
  await button(page, "Swap now").click();
}

scene("a swap goes on while another tab streams, and the stream ends on the weights it began with", OWN, async ({ page, visit, context, server }) => {
  await visit();
  await choose(page, { ...AT_LENGTH, "Longest answer": "200" });
  const other = await context.newPage();
  await other.goto(`${server.url}/#key=a-key-of-the-page`);
  await view(other, "Models");
  await expect.text(other.getByRole("heading", { level: 2 }).first(), BUILT_IN);
  await say(page, STORY);
  await until("some words", async () => (await wording(answers(page).last())).length > 20);
  await swap(other, OTHER);
  const panel = other.getByRole("region", { name: "Swap", exact: true });
  await expect.text(panel, new RegExp(`${OTHER} answers now`));
  // It is not over yet: the swap waited for nothing.
  await expect.text(status(page), "Writing…");
  await expect.text(panel.getByRole("listitem").nth(3), /Load the weights/);
  await expect.text(serving(other), new RegExp(OTHER));
  await expect.text(history(other).nth(1), new RegExp(`${BUILT_IN}\\s+${OTHER}`));

  const answer = await whole(page);
  await answer.locator(".answer-figures summary").click();
  await expect.text(answer.locator(".answer-figures"), new RegExp(`Model\\s+${BUILT_IN}`));
  await expect.text(serving(page), new RegExp(OTHER));
  const streams = (await server.stats()).streams;
  assert.equal(streams.total, 0);
  await choose(page, { "Longest answer": "5" });
  const next = await ask(page, STORY);
  await next.locator(".answer-figures summary").click();
  await expect.text(next.locator(".answer-figures"), new RegExp(`Model\\s+${OTHER}`));
});

scene("a model that is broken is told of in words, and the old one serves on", { own: true, logs: [/status of 422/] }, async ({ page, visit }) => {
  await visit("/#key=a-key-of-the-page");
  await view(page, "Models");
  await swap(page, BROKEN);
  const panel = page.getByRole("region", { name: "Swap", exact: true });
  await expect.text(panel, /failed/);
  await expect.text(panel, new RegExp(`${BROKEN} did not come up; ${BUILT_IN} answers as before`));
  await expect.text(serving(page), new RegExp(BUILT_IN));
  await expect.text(history(page).nth(1), /failed/);
  await view(page, "Chat");
  await message(page).waitFor();
  await ask(page, "What is 12 * 7?");
});

scene("a swap that somebody else begins is seen, and one that is refused says why", { own: true, settings: { ADMIN_API_KEY: "another-key" }, logs: [/status of 403/] }, async ({ page, visit, server }) => {
  await visit();
  await view(page, "Models");
  await button(page, `Swap to ${OTHER}`).click();
  await button(page, "Not now").click();
  await swap(page, OTHER);
  await expect.text(page.getByRole("alert"), /admin key/);
  const headers = { "X-Internal-API-Key": "another-key" };
  const swapped = await server.ask("/models/swap", { method: "POST", headers, body: JSON.stringify({ model_tag: OTHER }) });
  assert.equal(swapped.status, 202);
  await expect.text(page.getByRole("region", { name: "Swap", exact: true }), new RegExp(`${OTHER} answers now`));
  await expect.text(serving(page), new RegExp(OTHER));
});

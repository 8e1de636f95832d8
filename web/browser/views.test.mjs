/** The machine at work, and the explorer. */

import assert from "node:assert/strict";

import { expect } from "./support/expect.mjs";
import { KEY, scene } from "./support/scene.mjs";
import { OTHERS, SLOW } from "./support/server.mjs";
import { STORY, button } from "./support/chat.mjs";
import { until } from "./support/until.mjs";

const CHARTS = ["Tokens per second", "Load", "Time to first token", "Time between tokens", "KV pages", "Prefix hits"];

scene("Live shows figures, charts, swaps and every stream", { own: true, settings: SLOW }, async ({ page, visit, server }) => {
  await visit(`/#key=${KEY}`);
  await page.goto(`${server.url}/#/live`);
  const body = JSON.stringify({ messages: [{ role: "user", content: STORY }], max_tokens: 400, temperature: 2 });
  const streams = Array.from({ length: 5 }, () => server.ask("/generate", { method: "POST", headers: { "X-Seed": "7" }, body }));
  for (const name of CHARTS) {
    const chart = page.getByRole("figure", { name });
    await chart.locator("canvas").waitFor();
  }
  await expect.count(page.getByRole("table", { name: "Streams" }).getByRole("row"), 6);
  await expect.text(page.getByRole("table", { name: "Streams" }), /writes/);
  await until("tokens in the chart's summary", async () => /answers: now (?!0\/s)[\d.]+/.test((await page.getByRole("figure", { name: CHARTS[0] }).getByRole("img").getAttribute("aria-label")) ?? ""));
  await expect.text(page.locator(".now"), /Being answered\s+5/);
  const painted = await page.getByRole("figure", { name: CHARTS[0] }).locator("canvas").evaluate((canvas) => {
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    return data.some((value) => value !== 0);
  });
  assert.ok(painted, "something is drawn");
  await Promise.all(streams.map(async (one) => (await one).body.cancel()));
  await expect.text(page.locator("section", { has: page.getByRole("heading", { name: "Streams" }) }), /Nobody is being answered/);
  await expect.text(page.getByRole("region", { name: "Answers" }), /left by their reader\s+5/);
  await server.ask("/models/swap", { method: "POST", body: JSON.stringify({ model_tag: OTHERS[0] }) });
  await expect.text(page.locator(".serving"), new RegExp(OTHERS[0]));
  await button(page, "Pause").click();
  const before = await page.locator(".now").innerText();
  await expect.text(button(page, "Go on"), "Go on");
  assert.equal(await page.locator(".now").innerText(), before);
});

scene("the explorer lists every operation and tries them", { logs: [/status of 401/] }, async ({ page, visit }) => {
  await visit("/docs");
  const operations = page.getByRole("navigation", { name: "Operations" }).getByRole("link");
  await expect.count(operations, 11);
  await page.getByLabel("Filter operations").fill("swap");
  await expect.count(operations, 1);
  await page.getByLabel("Filter operations").fill("");
  const health = page.locator("#get-health");
  await health.getByText("Try it", { exact: true }).click();
  await button(health, "Send").click();
  await expect.text(health.getByRole("group", { name: "Answer" }), /"status": "ok"/);

  const generate = page.locator("#post-generate");
  await generate.getByText("Try it", { exact: true }).click();
  await button(generate, "Send").click();
  const dialog = page.getByRole("dialog");
  await dialog.getByLabel("Key", { exact: true }).fill(KEY);
  await page.keyboard.press("Enter");
  await generate.getByLabel("Body").fill("{");
  await expect.text(generate, /This is not JSON/);
  assert.ok(await button(generate, "Send").isDisabled());
  await generate.getByLabel("Body").fill('{"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 5}');
  await button(generate, "Send").click();
  await expect.text(generate.getByRole("group", { name: "Answer" }), /"done":true/);
  assert.ok(!(await page.locator("main").innerText()).includes(KEY), "examples name the key and do not tell it");
  const swap = page.locator("#post-models-swap");
  await swap.getByText("Try it", { exact: true }).click();
  assert.ok(await button(swap, "Send").isDisabled(), "a swap asks once more");
});

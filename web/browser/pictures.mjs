/** The pictures of the book: each view with something in it, as a reader would see it. `cargo xtask page --pictures`. */

import { join } from "node:path";

import { chromium } from "playwright-core";

import { answers, ask, button, say, whole } from "./support/chat.mjs";
import { expect } from "./support/expect.mjs";
import { between, stream } from "./support/proxy.mjs";
import { BROKEN, OTHERS, start } from "./support/server.mjs";
import { CHROMIUM, KEY } from "./support/setup.mjs";
import { until } from "./support/until.mjs";

const FOLDER = process.env.SAMOSA_PICTURES ?? ".";
const DESK = { viewport: { width: 1280, height: 800 }, locale: "en-GB" };
const PHONE = { viewport: { width: 390, height: 844 }, hasTouch: true, isMobile: true, locale: "en-GB" };

/** What a larger model might write, to show what the page makes of it. */
const RECIPE = `Here is a short one, for two:

1. Crush two hot **samosas** on a plate.
2. Spoon warm chickpeas over them, then cool yogurt.
3. Add both chutneys, onion, and a handful of *sev*.

| part | for two |
|---|---|
| samosas | 2 |
| chickpeas | 120 g |
| yogurt | 4 spoons |

How many spoons for seven guests? <|python_start|>4*7/2<|python_end|><|output_start|>14.0<|output_end|>So fourteen. As code:

\`\`\`python
def spoons(guests):
    return 4 * guests / 2
\`\`\`
`;

const browser = await chromium.launch({ executablePath: CHROMIUM, args: ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"] });

async function enter(url, options) {
  const context = await browser.newContext(options);
  const page = await context.newPage();
  await page.goto(`${url}/#key=${KEY}`);
  return page;
}

/** Without a pointer over anything, and with all letters there. */
async function take(page, name) {
  await page.mouse.move(0, 0);
  await page.evaluate(() => document.fonts.ready);
  await page.screenshot({ path: join(FOLDER, `${name}.png`), animations: "disabled" });
  console.log(`${name}.png`);
}

async function chats(server) {
  const proxy = await between(server);
  for (const [name, options] of [
    ["chat-light", { ...DESK, colorScheme: "light" }],
    ["chat-dark", { ...DESK, colorScheme: "dark" }],
    ["chat-phone", { ...PHONE, colorScheme: "light" }],
  ]) {
    const page = await enter(proxy.url, options);
    if (name !== "chat-phone") {
      for (const text of ["Tell me a story about a little bird.", "What is 12 * 7?", "What is samosa chaat?"]) {
        await ask(page, text);
        await button(page, "New chat").click();
      }
    }
    await ask(page, "What is samosa chaat?");
    proxy.answer = stream(RECIPE, { perSecond: 400, tag: "samosa-mini" });
    await say(page, "How do I make it?");
    await expect.count(answers(page), 2);
    await whole(page);
    await take(page, name);
    proxy.answer = null;
    await page.context().close();
  }
  await proxy.end();
}

async function views() {
  const server = await start("pictures");
  const page = await enter(server.url, { ...DESK, colorScheme: "light" });
  let going = true;
  const body = JSON.stringify({ messages: [{ role: "user", content: "Tell me a story about a little bird that flies over the hill and comes home." }], max_tokens: 300, temperature: 1.2 });
  const callers = Array.from({ length: 6 }, async () => {
    while (going) {
      const answer = await server.ask("/generate", { method: "POST", body });
      await answer.text();
    }
  });
  const swap = (tag) => server.ask("/models/swap", { method: "POST", headers: { Prefer: "wait=0" }, body: JSON.stringify({ model_tag: tag }) });
  await page.goto(`${server.url}/#/live`);
  const samples = (count) => until(`${count} seconds`, async () => (await (await server.ask("/stats/history")).json()).samples.at.length > count, 120_000);
  await samples(25);
  await swap(OTHERS[0]);
  await samples(40);
  await swap("samosa-mini");
  await samples(58);
  await button(page, "1 min").click();
  await until("a minute's curve", async () => (await page.locator("canvas").count()) > 5);
  await take(page, "live");
  await swap(BROKEN);
  await page.goto(`${server.url}/#/models`);
  await button(page, `Swap to ${OTHERS[1]}`).click();
  await button(page, "Swap now").click();
  await expect.text(page.getByRole("region", { name: "Swap", exact: true }), new RegExp(`${OTHERS[1]} answers now`));
  await page.locator("main").evaluate((main) => main.scrollTo(0, 0));
  await take(page, "models");
  going = false;
  await Promise.all(callers);
  await page.goto(`${server.url}/docs`);
  const generate = page.locator("#post-generate");
  await generate.getByText("Try it", { exact: true }).click();
  await generate.scrollIntoViewIfNeeded();
  await page.evaluate(() => document.getElementById("post-generate").scrollIntoView());
  await take(page, "explorer");
  await server.end();
}

const usual = await start("usual");
await chats(usual);
await usual.end();
await views();
await browser.close();

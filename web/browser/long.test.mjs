/** Ten thousand tokens: the page keeps up while they come, and scrolls. */

import assert from "node:assert/strict";

import { message, say, whole } from "./support/chat.mjs";
import { stream } from "./support/proxy.mjs";
import { scene } from "./support/scene.mjs";
import { until } from "./support/until.mjs";

const TOKENS = 10_000;
/** A frame in 60 takes 17 ms; software draws here, on cores that others use too. */
const MOST_P95_MS = 100;

const CHAPTER = `## A chapter of many

It begins with *words* of **weight**, and \`names\` in passing, for the eye to rest on; then it goes on for a while.

- first a thing, and then another
- second, with a [link](https://example.org/)

| dish | price |
|---|---|
| samosa chaat | 4 |

\`\`\`rust
fn fold(sheet: Sheet) -> Samosa {
    sheet.crimp()
}
\`\`\`

> and a line that somebody said

`;

/** Notes the time between frames, until it is asked. */
const watch = (page) =>
  page.evaluate(() => {
    const frames = [];
    let before = performance.now();
    const next = (now) => {
      frames.push(now - before);
      before = now;
      window.watching = requestAnimationFrame(next);
    };
    window.watching = requestAnimationFrame(next);
    window.watched = () => (cancelAnimationFrame(window.watching), frames.slice(1));
  });

async function watched(page, what, said) {
  const frames = (await page.evaluate(() => window.watched())).sort((a, b) => a - b);
  const at = (share) => frames[Math.min(frames.length - 1, Math.floor(share * frames.length))];
  const slow = frames.filter((ms) => ms > 50).length / frames.length;
  said(`${what}: ${frames.length} frames, p50 ${at(0.5).toFixed(1)} ms, p95 ${at(0.95).toFixed(1)}, p99 ${at(0.99).toFixed(1)}, most ${at(1).toFixed(1)}; ${(100 * slow).toFixed(1)} % above 50 ms`);
  return at(0.95);
}

scene("an answer of ten thousand tokens comes, is typed beside, and scrolls smoothly", { proxied: true }, async ({ page, visit, proxy, said }) => {
  const tokensOf = (text) => text.match(/\s*\S{1,5}|\s+$/g).length;
  const text = CHAPTER.repeat(Math.ceil(TOKENS / tokensOf(CHAPTER)));
  proxy.answer = stream(text, { perSecond: 1000 });
  await visit();
  await say(page, "Tell me everything.");
  await watch(page);
  const typed = [];
  for (const letter of "while it goes on I write") {
    const began = performance.now();
    await page.keyboard.type(letter);
    await until("the letter", async () => (await message(page).inputValue()).endsWith(letter));
    typed.push(performance.now() - began);
  }
  const answer = await whole(page);
  const coming = await watched(page, `while ${tokensOf(text)} tokens came, 1,000 a second`, said);
  typed.sort((a, b) => a - b);
  said(`a letter typed meanwhile took ${typed[Math.floor(typed.length / 2)].toFixed(0)} ms, at most ${typed.at(-1).toFixed(0)}`);

  const turns = page.getByRole("group", { name: "Messages" });
  const box = await turns.boundingBox();
  await page.mouse.move(box.x + box.width / 2, box.y + box.height / 2);
  await turns.evaluate((view) => (view.scrollTop = 0));
  await watch(page);
  let before = -1;
  for (let i = 0; i < 400; i += 1) {
    await page.mouse.wheel(0, 400);
    const { top, end } = await turns.evaluate((view) => ({ top: view.scrollTop, end: view.scrollHeight - view.clientHeight }));
    if (top >= end - 2 && top === before) {
      break;
    }
    before = top;
  }
  const scrolling = await watched(page, "while it scrolled from end to end", said);
  const bytes = await page.evaluate(() => performance.memory?.usedJSHeapSize ?? 0);
  said(`${(bytes / 1e6).toFixed(0)} MB of scripts' memory, ${await page.locator(".block").count()} blocks`);
  assert.ok((await answer.locator(".block").count()) > 500);
  assert.ok(coming < MOST_P95_MS, `p95 while it came: ${coming} ms`);
  assert.ok(scrolling < MOST_P95_MS, `p95 while it scrolled: ${scrolling} ms`);
  assert.ok(typed[Math.floor(typed.length * 0.95)] < 250, "a letter is there at once");
});

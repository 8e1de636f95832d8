/** Conversations as they go well. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";

import { answers, ask, AT_LENGTH, button, choose, list, message, questions, say, setting, status, STORY, whole, wording } from "./support/chat.mjs";
import { expect } from "./support/expect.mjs";
import { KEY, scene } from "./support/scene.mjs";
import { SLOW } from "./support/server.mjs";
import { until } from "./support/until.mjs";

const SLOWLY = { server: "slow", settings: SLOW };

scene("an answer comes piece by piece, is said to be complete, and has its figures", SLOWLY, async ({ page, visit }) => {
  await visit();
  await choose(page, { Seed: "1" });
  await say(page, STORY);
  await expect.text(status(page), "Writing…");
  const lengths = new Set();
  await until("the text to have grown in steps", async () => {
    lengths.add((await answers(page).last().innerText()).length);
    return lengths.size > 4;
  });
  const answer = await whole(page);
  const figures = answer.locator(".answer-figures");
  await expect.text(figures, /tokens\/s/);
  await expect.text(figures, /first after/);
  await figures.locator("summary").click();
  await expect.text(figures, /samosa-mini/);
  await expect.text(figures, /Seed\s+\d+/);
  await until("its address", () => /#\/c\/[\w-]+$/.test(page.url()));
});

scene("what the calculator is asked and says stands in a card", {}, async ({ page, visit }) => {
  await visit();
  await choose(page, { Seed: "1" });
  const answer = await ask(page, "What is 12 * 7?");
  const card = answer.getByRole("group", { name: "Calculator" });
  await expect.text(card, /12\s*\*\s*7[\s\S]*84/);
  assert.ok(!(await answer.innerText()).includes("<|"), "markers are no text");
});

scene("Stop keeps what was written, and the server has the place free again", SLOWLY, async ({ page, visit, server }) => {
  await visit();
  await choose(page, AT_LENGTH);
  await say(page, STORY);
  await until("some words", async () => (await wording(answers(page).last())).length > 20);
  await button(page, "Stop").click();
  await expect.text(status(page), "Stopped.");
  const partial = await wording(answers(page).last());
  assert.ok(partial.length > 20);
  await expect.is("what runs", async () => (await server.stats()).running, 0);
  await expect.text(answers(page).last(), /Stopped\./);
  await page.reload();
  await expect.is("the partial answer", () => wording(answers(page).last()), partial);
});

scene("a page that is left in the middle of an answer comes back with what there was", SLOWLY, async ({ page, visit, server }) => {
  await visit();
  await choose(page, AT_LENGTH);
  await say(page, STORY);
  await until("some words", async () => (await wording(answers(page).last())).length > 20);
  const seen = await wording(answers(page).last());
  await page.reload();
  await expect.count(questions(page), 1);
  await until("the words from before", async () => (await wording(answers(page).last())).startsWith(seen.slice(0, 15)));
  await expect.text(answers(page).last(), /Cut off when the page was left/);
  await expect.is("what runs", async () => (await server.stats()).running, 0);
  await expect.count(list(page).getByRole("link"), 1);
});

scene("an answer once more stands beside the first", {}, async ({ page, visit }) => {
  await visit();
  const first = await wording(await ask(page, STORY));
  await button(answers(page), "Regenerate").click();
  await expect.text(answers(page).locator(".versions"), "2 of 2");
  await whole(page);
  const second = await wording(answers(page));
  await button(answers(page), "Previous version").click();
  await expect.text(answers(page).locator(".versions"), "1 of 2");
  assert.equal(await wording(answers(page)), first);
  await button(answers(page), "Next version").click();
  await expect.is("the second version", () => wording(answers(page)), second);
  await page.reload();
  await expect.text(answers(page).locator(".versions"), "2 of 2");
});

scene("a message said differently begins a branch, and both stay", {}, async ({ page, visit }) => {
  await visit();
  await ask(page, "What is 12 * 7?");
  await ask(page, "What is samosa chaat?");
  await button(questions(page).first(), "Edit message").click();
  const editor = page.getByRole("textbox", { name: "Edit message" });
  await expect.focused(editor);
  await page.keyboard.press("Escape");
  await expect.focused(button(questions(page).first(), "Edit message"));
  await page.keyboard.press("Enter");
  await editor.fill("How does bread rise?");
  await button(page, "Send again").click();
  await expect.text(questions(page).first().locator(".versions"), "2 of 2");
  await whole(page);
  await expect.count(questions(page), 1);
  await button(questions(page).first(), "Previous version").click();
  await expect.count(questions(page), 2);
  await expect.text(questions(page).last(), "What is samosa chaat?");
});

scene("the same seed gives the same answer; choices stay and go back to the defaults", {}, async ({ page, visit }) => {
  await visit();
  await choose(page, { Temperature: "1.5", Seed: "42", "Longest answer": "40" });
  const first = await wording(await ask(page, STORY));
  await button(page, "New chat").click();
  assert.equal(await wording(await ask(page, STORY)), first);
  await choose(page, { Seed: "43" });
  await button(page, "New chat").click();
  assert.notEqual(await wording(await ask(page, STORY)), first);
  await page.reload();
  await button(page, "Settings").click();
  await expect.value(setting(page, "Temperature"), "1.5");
  await expect.value(setting(page, "Seed"), "43");
  await button(page, "Back to the defaults").click();
  await expect.value(setting(page, "Seed"), "");
  await page.reload();
  await button(page, "Settings").click();
  await expect.value(setting(page, "Temperature"), "");
});

scene("conversations go into a file and out of it, are named and deleted", {}, async ({ page, visit, audience }) => {
  await visit();
  await ask(page, "What is 12 * 7?");
  await button(answers(page), "Regenerate").click();
  await expect.text(answers(page).locator(".versions"), "2 of 2");
  await whole(page);
  await button(page, "New chat").click();
  await ask(page, "What is samosa chaat?");
  await button(page, "Rename What is samosa chaat?").click();
  await page.getByRole("textbox", { name: "Title" }).fill("Snacks");
  await page.keyboard.press("Enter");
  await list(page).getByRole("link", { name: "Snacks" }).waitFor();
  const [file] = await Promise.all([page.waitForEvent("download"), button(page, "Export all").click()]);
  const path = await file.path();

  const other = await audience.enter();
  await other.visit();
  await take(other.page, path, /2 of 2 came in/);
  await take(other.page, path, /2 were here already/);
  await list(other.page).getByRole("link", { name: "What is 12 * 7?" }).click();
  await expect.text(answers(other.page).locator(".versions"), "2 of 2");
  const [again] = await Promise.all([other.page.waitForEvent("download"), button(other.page, "Export all").click()]);
  assert.deepEqual(inside(await again.path()), inside(path));

  await button(other.page, "Delete Snacks").click();
  await expect.text(list(other.page), /Delete it\?/);
  await button(other.page, "Keep").click();
  await button(other.page, "Delete Snacks").click();
  await button(other.page, "Delete").click();
  await expect.count(list(other.page).getByRole("link"), 1);
  await other.page.reload();
  await expect.count(list(other.page).getByRole("link"), 1);
  await take(other.page, { name: "x.json", mimeType: "application/json", buffer: Buffer.from("[1") }, /not taken/);
});

scene("two tabs of one browser show the same conversations, and lose nothing of each other", SLOWLY, async ({ page, visit, context, server }) => {
  await visit();
  const other = await beside(context, server);
  await choose(page, AT_LENGTH);
  await say(page, STORY);
  await list(other).getByRole("link", { name: STORY }).click();
  await expect.text(answers(other).last(), /Being written in another tab\./);
  await button(list(other), `Rename ${STORY}`).click();
  await other.getByRole("textbox", { name: "Title" }).fill("Birds");
  await other.keyboard.press("Enter");
  await list(page).getByRole("link", { name: "Birds" }).waitFor();
  await until("some words", async () => (await wording(answers(page).last())).length > 20);
  await button(page, "Stop").click();
  await expect.text(answers(other).last(), /Stopped\./);
  await expect.is("its words", () => wording(answers(other).last()), await wording(answers(page).last()));
});

scene("what is deleted in one tab is gone in all, also while another writes in it", SLOWLY, async ({ page, visit, context, server }) => {
  await visit();
  const other = await beside(context, server);
  await choose(page, AT_LENGTH);
  await say(page, STORY);
  await list(other).getByRole("link").waitFor();
  await button(list(other), `Delete ${STORY}`).click();
  await button(list(other), "Delete").click();
  await expect.is("what runs", async () => (await server.stats()).running, 0);
  for (const tab of [page, other]) {
    await expect.count(list(tab).getByRole("listitem"), 0);
    await tab.reload();
    await message(tab).waitFor();
    await expect.count(list(tab).getByRole("listitem"), 0);
  }
});

scene("what a slow database does not have yet when a page goes away is not lost", { init: slowDatabase }, async ({ page, visit }) => {
  await visit();
  await ask(page, "What is 12 * 7?");
  const said = await wording(answers(page).last());
  await button(page, "New chat").click();
  await ask(page, "What is samosa chaat?");
  await page.reload();
  await expect.count(list(page).getByRole("link"), 2);
  await list(page).getByRole("link", { name: "What is 12 * 7?" }).click();
  await expect.is("the answer", () => wording(answers(page).last()), said);
  await button(page, "Delete What is 12 * 7?").click();
  await button(page, "Delete").click();
  await expect.count(list(page).getByRole("listitem"), 1);
  await page.reload();
  await message(page).waitFor();
  await expect.count(list(page).getByRole("link"), 1);
});

scene("a conversation that cannot be shown leaves the others alone", { logs: [/Cannot read properties of null/] }, async ({ page, visit }) => {
  await visit();
  await ask(page, "What is 12 * 7?");
  await button(page, "New chat").click();
  await ask(page, "What is samosa chaat?");
  await page.evaluate(spoil, "What is samosa chaat?");
  await page.reload();
  await expect.text(page.getByRole("alert"), /This cannot be shown/);
  await list(page).getByRole("link", { name: "What is 12 * 7?" }).click();
  await expect.count(answers(page), 1);
});

/** Another tab of the same browser. */
async function beside(context, server) {
  const other = await context.newPage();
  await other.goto(`${server.url}/#key=${KEY}`);
  return other;
}

async function take(page, file, said) {
  await page.getByLabel("File to import").setInputFiles(file);
  await expect.text(list(page).getByRole("status"), said);
}

const inside = (path) => JSON.parse(readFileSync(path, "utf8")).conversations;

/** In the page: whatever is written is only written after a minute. */
function slowDatabase() {
  for (const how of ["put", "delete"]) {
    const { [how]: now } = IDBObjectStore.prototype;
    IDBObjectStore.prototype[how] = function (...words) {
      const store = this;
      const until = performance.now() + 60_000;
      const again = () => {
        if (performance.now() < until) {
          store.count().onsuccess = again;
        } else {
          now.apply(store, words);
        }
      };
      again();
    };
  }
}

/** In the page: takes the texts out of a conversation in the database. */
function spoil(title) {
  return new Promise((done, fail) => {
    indexedDB.open("samosa").onsuccess = ({ target: { result: database } }) => {
      const change = database.transaction("conversations", "readwrite");
      const store = change.objectStore("conversations");
      store.getAll().onsuccess = ({ target: { result: all } }) => {
        const one = all.find((one) => one.title === title);
        Object.values(one.turns).forEach((turn) => (turn.text = null));
        store.put(one, one.id);
      };
      change.oncomplete = done;
      change.onerror = fail;
    };
  });
}

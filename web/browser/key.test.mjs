/** Where the key comes from, where it stays, and where it never goes. */

import assert from "node:assert/strict";

import { answers, ask, button, message } from "./support/chat.mjs";
import { expect } from "./support/expect.mjs";
import { KEY, scene } from "./support/scene.mjs";

const REFUSED = [/status of 401/];

/** Every place in which a browser keeps something for longer than a tab. */
const kept = (page) =>
  page.evaluate(async () => {
    const stores = [];
    for (const { name } of await indexedDB.databases()) {
      const base = await new Promise((done) => (indexedDB.open(name).onsuccess = ({ target }) => done(target.result)));
      for (const store of base.objectStoreNames) {
        stores.push(await new Promise((done) => (base.transaction(store).objectStore(store).getAll().onsuccess = ({ target }) => done(target.result))));
      }
      base.close();
    }
    return { session: JSON.stringify(sessionStorage), others: JSON.stringify([localStorage, stores, document.cookie, await caches.keys()]) };
  });

scene("the address that is printed opens the chat, and the key leaves it at once", { proxied: true }, async ({ page, visit, proxy, server }) => {
  await visit(`/#key=${KEY}`);
  await message(page).waitFor();
  assert.equal(await page.getByRole("dialog").count(), 0);
  await ask(page, "What is samosa chaat?");
  assert.ok(!page.url().includes(KEY), page.url());
  await page.goBack().catch(() => undefined);
  assert.ok(!page.url().includes(KEY), page.url());
  const { session, others } = await kept(page);
  assert.ok(session.includes(KEY));
  assert.ok(!others.includes(KEY), others);
  assert.ok(proxy.requests.length > 5);
  assert.deepEqual(proxy.requests.filter(({ url }) => url.includes(KEY)), []);
  const carriers = proxy.requests.filter(({ headers }) => Object.values(headers).includes(KEY));
  assert.ok(carriers.length > 0);
  assert.ok(carriers.every(({ headers }) => headers["x-internal-api-key"] === KEY));
  assert.ok(!server.log().includes(KEY), "the server's log holds the key");
});

scene("without a key it is asked for; a wrong one is refused in a sentence, the right one opens", { logs: REFUSED }, async ({ page, visit }) => {
  await visit("/");
  const dialog = page.getByRole("dialog");
  const field = dialog.getByLabel("Key", { exact: true });
  await expect.focused(field);
  assert.ok(await button(dialog, "Open").isDisabled());
  await page.keyboard.press("Escape");
  assert.ok(await dialog.isVisible(), "there is no way around it");
  await field.fill("not-the-key");
  await field.press("Enter");
  await expect.text(dialog.getByRole("alert"), /did not take that key/);
  await expect.value(field, "");
  await expect.focused(field);
  await field.fill(KEY);
  await button(dialog, "Open").click();
  await expect.count(page.getByRole("dialog"), 0);
  await ask(page, "What is samosa chaat?");
});

scene("a key that is forgotten is asked for again, and another tab has to bring its own", { logs: REFUSED }, async ({ page, visit, context, server }) => {
  await visit();
  await ask(page, "What is samosa chaat?");
  await button(page, "Forget the key").click();
  await page.getByRole("dialog").waitFor();
  assert.ok(!(await kept(page)).session.includes(KEY));
  const other = await context.newPage();
  await other.goto(server.url);
  await other.getByRole("dialog").waitFor();
  await page.getByLabel("Key", { exact: true }).fill(KEY);
  await page.keyboard.press("Enter");
  await expect.count(page.getByRole("dialog"), 0);
  await expect.count(answers(page), 1);
});

/** What is to become so, waited for. */

import { until } from "./until.mjs";

const shorten = (text) => (text.length > 200 ? `${text.slice(0, 200)}…` : text);

async function become(what, look, fits, limitMs) {
  let last;
  await until(what, async () => fits((last = await look())), limitMs).catch(() => {
    throw new Error(`expected ${what}, and last it was ${shorten(JSON.stringify(last) ?? "nothing")}`);
  });
}

export const expect = {
  count: (locator, count, limit) => become(`${locator} ${count} times`, () => locator.count(), (now) => now === count, limit),
  text: (locator, text, limit) =>
    become(
      `${locator} to say ${text}`,
      () => locator.innerText(),
      (now) => (text instanceof RegExp ? text.test(now) : now.trim() === text),
      limit,
    ),
  value: (locator, value, limit) => become(`${locator} to hold ${value}`, () => locator.inputValue(), (now) => now === value, limit),
  focused: (locator, limit) => become(`${locator} to have the focus`, () => locator.evaluate((node) => node === document.activeElement), Boolean, limit),
  is: (what, look, wanted, limit) => become(`${what} to be ${JSON.stringify(wanted)}`, look, (now) => JSON.stringify(now) === JSON.stringify(wanted), limit),
};

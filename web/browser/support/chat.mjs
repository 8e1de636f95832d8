/** The chat as a reader finds it: by roles and names. */

import { expect } from "./expect.mjs";

export const message = (page) => page.getByRole("textbox", { name: "Message", exact: true });
export const button = (page, name) => page.getByRole("button", { name, exact: true });
export const answers = (page) => page.getByRole("article", { name: "Answer" });
export const questions = (page) => page.getByRole("article", { name: "You" });
export const list = (page) => page.getByRole("navigation", { name: "Conversations" });
export const status = (page) => page.getByRole("region", { name: "Conversation" }).getByRole("status").last();

/** Says something, and does not wait for the answer. */
export async function say(page, text) {
  await message(page).fill(text);
  await message(page).press("Enter");
}

/** Says something and waits until the answer is whole. Returns the last answer. */
export async function ask(page, text) {
  const before = await answers(page).count();
  await say(page, text);
  await expect.count(answers(page), before + 1);
  return whole(page);
}

/** The last answer, once it is whole. */
export async function whole(page) {
  await expect.text(status(page), "Answer complete.");
  const answer = answers(page).last();
  await answer.locator(".answer-figures").waitFor();
  return answer;
}

/** What an answer says, without what is below it. */
export async function wording(answer) {
  return (await answer.locator(".prose, .tool").allInnerTexts()).join("\n").trim();
}

/** A setting, by its label. */
export const setting = (page, name) => page.getByRole("region", { name: "Settings" }).getByLabel(name, { exact: true });

/** Chooses settings by their labels. */
export async function choose(page, fields) {
  const region = page.getByRole("region", { name: "Settings" });
  if (!(await region.isVisible())) {
    await button(page, "Settings").click();
  }
  for (const [name, value] of Object.entries(fields)) {
    await setting(page, name).fill(value);
  }
  await region.getByRole("button", { name: "Done" }).click();
}

/** What makes a slow server write for long: at this heat and with this seed the story is the longest. */
export const AT_LENGTH = { Temperature: "2", "Longest answer": "4000", Seed: "7" };
export const STORY = "Tell me a story about a little bird.";

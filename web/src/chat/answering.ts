/** From a question to its answer, token by token: what is asked, what is heard, and how it ends. */

import { type Signal, signal } from "@preact/signals";

import { Problem } from "../server/ask";
import { type Done, generate, type Message } from "../server/generate";
import { stats } from "../server/pulse";
import { added, altered, type Fault, type Figures, newId, type Turn, upTo, without } from "./conversation";
import { fit, USUAL } from "./fit";
import { choices } from "./sampling";
import { beforeLeaving, change, find, save } from "./store";

/** Milliseconds between two times that an unfinished answer is written down. */
const SAVE_EVERY = 1500;

/** An answer that is being written. */
export interface Writing {
  text: Signal<string>;
  tokens: Signal<number>;
  /** When the first text came, on the page's clock. */
  firstAt: number | null;
  stop: () => void;
}

const writing = signal<Map<string, Writing>>(new Map());
/** What is said to readers who do not see it. */
export const said = signal("");

/** The answer that is being written in a turn, if it is. */
export const writingOf = (turn: string): Writing | undefined => writing.value.get(turn);

/** The one that is being written in a conversation. */
export function writingIn(conversation: string): Writing | undefined {
  const turns = Object.values(find(conversation)?.turns ?? {});
  const turn = turns.find((turn) => turn.standing === "writing");
  return turn && writing.value.get(turn.id);
}

/** Takes what a reader says after a turn, and answers it. */
export async function say(conversation: string, parent: string | null, text: string): Promise<void> {
  const turn: Turn = { id: newId(), parent, role: "user", text, at: Date.now(), standing: "whole" };
  change(conversation, (one) => added(one, turn));
  await answer(conversation, turn.id);
}

/** Answers a turn once more. An answer that failed before its first word makes room for it. */
export async function again(conversation: string, turn: Turn): Promise<void> {
  if (turn.parent === null) {
    return;
  }
  if (turn.text === "" && turn.standing !== "writing") {
    change(conversation, (one) => without(one, turn.id));
  }
  await answer(conversation, turn.parent);
}

/** Asks for an answer to a turn of a reader, beside those it may have already. */
async function answer(conversation: string, question: string): Promise<void> {
  const before = find(conversation);
  if (!before) {
    return;
  }
  const turn: Turn = { id: newId(), parent: question, role: "assistant", text: "", at: Date.now(), standing: "writing" };
  const { messages, dropped, shortened } = fit(sent(upTo(before, question)), stats.value?.limits ?? USUAL);
  const stopper = new AbortController();
  const now = hear(conversation, turn, stopper);
  change(conversation, (one) => added(one, turn));
  // Whoever leaves at once finds what was asked.
  void save(conversation);
  said.value = "Writing…";
  const began = performance.now();
  const { system: _, ...drawn } = choices.value;
  let end: Partial<Turn>;
  try {
    const done = await generate({ messages, ...drawn, signal: stopper.signal }, now.heard);
    const first_ms = (now.firstAt ?? performance.now()) - began;
    end = { standing: "whole", figures: { ...figures(done, dropped), seed: drawn.seed ?? String(done.seed), first_ms, shortened_messages: shortened } };
    said.value = "Answer complete.";
  } catch (error) {
    end = stopper.signal.aborted ? { standing: "stopped" } : { standing: "failed", fault: fault(error) };
    said.value = stopper.signal.aborted ? "Stopped." : "";
  }
  now.over(end);
  void save(conversation);
}

/** What the model is told: the system message and all that was said, answers that failed without a word left out. */
function sent(turns: Turn[]): Message[] {
  const system = choices.value.system?.trim();
  const lead: Message[] = system ? [{ role: "system", content: system }] : [];
  return [...lead, ...turns.map(({ role, text }) => ({ role, content: text }))];
}

/** Takes the text as it comes and shows it once a frame, however fast it comes. */
function hear(conversation: string, turn: Turn, stopper: AbortController) {
  const shown: Writing = { text: signal(""), tokens: signal(0), firstAt: null, stop: () => stopper.abort() };
  writing.value = new Map(writing.value).set(turn.id, shown);
  let text = "";
  let tokens = 0;
  let frame = 0;
  const show = () => {
    frame = 0;
    shown.text.value = text;
    shown.tokens.value = tokens;
  };
  const keep = () => {
    if (!find(conversation)) {
      // Somebody deleted it in another tab.
      stopper.abort();
    }
    change(conversation, (one) => altered(one, turn.id, { text }));
    void save(conversation);
  };
  const saver = setInterval(keep, SAVE_EVERY);
  beforeLeaving.add(keep);
  return {
    get firstAt() {
      return shown.firstAt;
    },
    heard(more: string, count: number) {
      shown.firstAt ??= performance.now();
      text += more;
      tokens += count;
      // A hidden page has no frames; its text is shown when it is looked at again.
      frame ||= requestAnimationFrame(show);
    },
    over(end: Partial<Turn>) {
      clearInterval(saver);
      beforeLeaving.delete(keep);
      cancelAnimationFrame(frame);
      change(conversation, (one) => altered(one, turn.id, { ...end, text }));
      const rest = new Map(writing.value);
      rest.delete(turn.id);
      writing.value = rest;
    },
  };
}

/** What the service said of an answer, and how many turns the page itself left out. */
function figures(done: Done, dropped: number): Omit<Figures, "seed" | "first_ms" | "shortened_messages"> {
  const { model_tag, weights, finish_reason, usage, timings_ms } = done;
  const after = usage.completion_tokens - 1;
  return {
    ...usage,
    model_tag,
    weights,
    finish_reason,
    tokens_per_second: after > 0 && timings_ms.decode > 0 ? (after / timings_ms.decode) * 1000 : null,
    dropped_messages: (done.dropped_messages ?? 0) + dropped,
  };
}

function fault(error: unknown): Fault {
  if (!(error instanceof Problem)) {
    return { detail: `The page made a mistake: ${String(error)}`, code: "page", retryable: true, again_at: null, request_id: null };
  }
  const { message, code, retryable, retryAfter, requestId } = error;
  const again_at = retryAfter === undefined ? null : Date.now() + retryAfter * 1000;
  return { detail: message, code, retryable, again_at, request_id: requestId ?? null };
}

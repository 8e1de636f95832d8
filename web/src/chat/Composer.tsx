/** Where a message is written. Enter sends it, Shift and Enter begin a new line, Escape stops an answer. */

import { signal, useSignal } from "@preact/signals";
import type { RefObject } from "preact";
import { useLayoutEffect } from "preact/hooks";

import { stats } from "../server/pulse";
import { Icon } from "../shell/Icon";
import { isComposing } from "../shell/keys";
import { group } from "../shell/words";
import { say, writingIn } from "./answering";
import { type Conversation, path } from "./conversation";
import { length, USUAL } from "./fit";
import { Settings } from "./Settings";
import { conversations } from "./store";
import { go } from "../shell/route";

/** What is written and not yet sent, by conversation. */
const drafts = signal<ReadonlyMap<string, string>>(new Map());

/** Share of the limit from which on the count is shown. */
const NEAR = 0.8;

export function Composer({ conversation, box }: { conversation: Conversation; box: RefObject<HTMLTextAreaElement | null> }) {
  const { id } = conversation;
  const open = useSignal(false);
  const text = drafts.value.get(id) ?? "";
  const write = (next: string) => (drafts.value = new Map(drafts.value).set(id, next));
  const writing = writingIn(id);
  const most = stats.value?.limits.message_chars ?? USUAL.message_chars;
  const signs = length(text);
  const ready = text.trim() !== "" && signs <= most && !writing;
  useLayoutEffect(() => grow(box.current), [text]);
  const send = (event: Event) => {
    event.preventDefault();
    if (ready) {
      write("");
      void sendIn(conversation, text.trim());
      box.current?.focus();
    }
  };
  const onKey = (event: KeyboardEvent) => {
    if (isComposing(event)) {
      return;
    }
    if (event.key === "Enter" && !event.shiftKey) {
      send(event);
    } else if (event.key === "Escape") {
      writing?.stop();
    }
  };
  return (
    <form class="composer" onSubmit={send}>
      {open.value && <Settings close={() => (open.value = false)} />}
      <div class="bar">
        <textarea
          ref={box}
          aria-label="Message"
          placeholder="Say something"
          rows={1}
          value={text}
          aria-describedby={signs > most * NEAR ? "composer-count" : undefined}
          aria-invalid={signs > most ? "true" : undefined}
          onInput={(event) => write(event.currentTarget.value)}
          onKeyDown={onKey}
        />
        <div class="under">
          <button class="button quiet small" type="button" aria-expanded={open.value} onClick={() => (open.value = !open.value)}>
            <Icon name="tune" size={18} /> Settings
          </button>
          {signs > most * NEAR && (
            <span id="composer-count" class={`small figures ${signs > most ? "over" : "soft"}`} role="status">
              {group(signs)} of {group(most)} characters
            </span>
          )}
          {writing ? (
            <button class="button icon primary round" type="button" onClick={writing.stop} aria-label="Stop" title="Stop (Escape)">
              <Icon name="stop" />
            </button>
          ) : (
            <button class="button icon primary round" type="submit" disabled={!ready} aria-label="Send" title="Send (Enter)">
              <Icon name="send" />
            </button>
          )}
        </div>
      </div>
    </form>
  );
}

/** Says it after the last turn that is shown. A conversation has its address from its first message on. */
export async function sendIn(conversation: Conversation, text: string): Promise<void> {
  const isNew = !conversations.value.some((one) => one.id === conversation.id);
  if (isNew) {
    go(`#/c/${conversation.id}`);
  }
  await say(conversation.id, path(conversation).at(-1)?.id ?? null, text);
}

/** As high as its text, up to what the style allows. */
function grow(box: HTMLTextAreaElement | null): void {
  if (box) {
    box.style.height = "auto";
    box.style.height = `${box.scrollHeight}px`;
  }
}

/** The conversation in front: its turns, kept in view as they grow, and the place to write. */

import { useSignal } from "@preact/signals";
import { useEffect, useLayoutEffect, useRef } from "preact/hooks";

import { Icon } from "../shell/Icon";
import { Answer } from "./Answer";
import { said, writingIn } from "./answering";
import { Composer } from "./Composer";
import { type Conversation, path } from "./conversation";
import { Question } from "./Question";
import { trouble } from "./store";
import { Welcome } from "./Welcome";

/** Pixels from the end within which the end is followed. */
const NEAR_END = 48;

export function Talk({ conversation }: { conversation: Conversation }) {
  const turns = path(conversation);
  const box = useRef<HTMLTextAreaElement>(null);
  const { view, inner, isAtEnd, toEnd } = useFollowing(conversation.id);
  const isBusy = writingIn(conversation.id) !== undefined;
  const lastQuestion = turns.findLast((turn) => turn.role === "user")?.id;
  // Whoever asks wants to see the answer.
  useLayoutEffect(toEnd, [lastQuestion]);
  useEffect(() => keepFocus(box.current), [isBusy, turns.length]);
  return (
    <section class="talk" aria-label="Conversation">
      <div class="turns" ref={view} tabIndex={0} role="group" aria-label="Messages">
        <div class="column" ref={inner}>
          {turns.length === 0 ? <Welcome conversation={conversation} /> : <h1 class="visually-hidden">{conversation.title}</h1>}
          {turns.map((turn) =>
            turn.role === "user" ? (
              <Question key={turn.id} conversation={conversation} turn={turn} isBusy={isBusy} />
            ) : (
              <Answer key={turn.id} conversation={conversation} turn={turn} isBusy={isBusy} />
            ),
          )}
        </div>
      </div>
      <div class="foot">
        {!isAtEnd && (
          <button class="button icon to-end" type="button" onClick={toEnd} aria-label="To the newest" title="To the newest">
            <Icon name="down" />
          </button>
        )}
        {trouble.value && (
          <p class="notice small" role="alert">
            {trouble.value}
          </p>
        )}
        <Composer conversation={conversation} box={box} />
        <p class="visually-hidden" role="status">
          {said.value}
        </p>
      </div>
    </section>
  );
}

/** Follows the end of what grows, until the reader scrolls away from it. */
function useFollowing(conversation: string) {
  const view = useRef<HTMLDivElement>(null);
  const inner = useRef<HTMLDivElement>(null);
  const isAtEnd = useSignal(true);
  const toEnd = () => {
    isAtEnd.value = true;
    view.current?.scrollTo({ top: view.current.scrollHeight });
  };
  useEffect(() => {
    const scroller = view.current;
    const content = inner.current;
    if (!scroller || !content) {
      return;
    }
    let before = scroller.scrollTop;
    const onScroll = () => {
      const { scrollTop, scrollHeight, clientHeight } = scroller;
      const isNear = scrollHeight - scrollTop - clientHeight < NEAR_END;
      // What grows moves the end away without anybody scrolling; only going back means to stay.
      isAtEnd.value = isNear || (isAtEnd.value && scrollTop >= before);
      before = scrollTop;
    };
    const grown = new ResizeObserver(() => {
      if (isAtEnd.value) {
        scroller.scrollTop = scroller.scrollHeight;
      }
    });
    scroller.addEventListener("scroll", onScroll, { passive: true });
    grown.observe(content);
    grown.observe(scroller);
    return () => {
      scroller.removeEventListener("scroll", onScroll);
      grown.disconnect();
    };
  }, []);
  useLayoutEffect(toEnd, [conversation]);
  return { view, inner, isAtEnd: isAtEnd.value, toEnd };
}

/** A control that is gone takes the focus with it; then it goes to where one writes. Phones would open their keyboard. */
function keepFocus(box: HTMLTextAreaElement | null): void {
  const isLost = document.activeElement === document.body || document.activeElement === null;
  if (isLost && matchMedia("(pointer: fine)").matches) {
    box?.focus({ preventScroll: true });
  }
}

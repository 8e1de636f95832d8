/** What a reader said; it can be said differently, which begins a branch. */

import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";

import { CopyButton } from "../shell/CopyButton";
import { Icon } from "../shell/Icon";
import { isComposing } from "../shell/keys";
import { say } from "./answering";
import type { Conversation, Turn } from "./conversation";
import { Versions } from "./Versions";

export function Question({ conversation, turn, isBusy }: { conversation: Conversation; turn: Turn; isBusy: boolean }) {
  const editing = useSignal(false);
  const edit = useRef<HTMLButtonElement>(null);
  const close = () => {
    editing.value = false;
    // The focus goes back to where it came from.
    requestAnimationFrame(() => edit.current?.focus());
  };
  if (editing.value) {
    const send = (text: string) => {
      editing.value = false;
      void say(conversation.id, turn.parent, text);
    };
    return (
      <article class="turn question editing" aria-label="You">
        <Editor text={turn.text} isBusy={isBusy} send={send} close={close} />
      </article>
    );
  }
  return (
    <article class="turn question" aria-label="You">
      <div class="said">{turn.text}</div>
      <footer>
        <Versions conversation={conversation} turn={turn} />
        <CopyButton name="Copy message" text={turn.text} />
        <button ref={edit} class="button quiet small icon" type="button" onClick={() => (editing.value = true)} disabled={isBusy} aria-label="Edit message" title="Edit message">
          <Icon name="edit" size={18} />
        </button>
      </footer>
    </article>
  );
}

function Editor({ text, isBusy, send, close }: { text: string; isBusy: boolean; send: (text: string) => void; close: () => void }) {
  const typed = useSignal(text);
  const box = useRef<HTMLTextAreaElement>(null);
  useEffect(() => {
    box.current?.focus();
    box.current?.setSelectionRange(text.length, text.length);
  }, []);
  const ready = typed.value.trim() !== "" && !isBusy;
  const submit = (event: Event) => {
    event.preventDefault();
    if (ready) {
      send(typed.value.trim());
    }
  };
  const onKey = (event: KeyboardEvent) => {
    if (isComposing(event)) {
      return;
    }
    if (event.key === "Escape") {
      close();
    } else if (event.key === "Enter" && !event.shiftKey) {
      submit(event);
    }
  };
  return (
    <form onSubmit={submit}>
      <textarea
        ref={box}
        class="input"
        aria-label="Edit message"
        rows={Math.min(12, typed.value.split("\n").length + 1)}
        value={typed.value}
        onInput={(event) => (typed.value = event.currentTarget.value)}
        onKeyDown={onKey}
      />
      <div class="actions">
        <button class="button quiet small" type="button" onClick={close}>
          Cancel
        </button>
        <button class="button primary small" type="submit" disabled={!ready}>
          Send again
        </button>
      </div>
    </form>
  );
}

/** Asks for the key, once for a tab. Where one can do without, it can be closed. */

import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";

import { keep, refusal } from "../server/key";
import { Mark } from "./Mark";

export function KeyDialog({ isWanted, close }: { isWanted: boolean; close?: () => void }) {
  const box = useRef<HTMLDialogElement>(null);
  const typed = useSignal("");
  useEffect(() => {
    const dialog = box.current;
    if (isWanted && dialog && !dialog.open) {
      typed.value = "";
      dialog.showModal();
    } else if (!isWanted) {
      dialog?.close();
    }
  }, [isWanted]);
  const submit = (event: Event) => {
    event.preventDefault();
    const text = typed.value.trim();
    if (text) {
      keep(text);
    }
  };
  return (
    <dialog ref={box} class="key-dialog" aria-labelledby="key-title" onCancel={(event) => (close ? close() : event.preventDefault())}>
      <form onSubmit={submit}>
        <Mark size={40} />
        <h2 id="key-title">Which key?</h2>
        <p class="soft">
          The service answers whoever has one of its keys (<code>INTERNAL_API_KEY</code>). It stays in this tab until you
          close it, and goes nowhere but to this service.
        </p>
        <label class="field">
          <span>Key</span>
          <input
            class="input mono"
            type="password"
            name="key"
            autocomplete="current-password"
            spellcheck={false}
            value={typed.value}
            aria-describedby={refusal.value ? "key-refusal" : undefined}
            aria-invalid={refusal.value ? "true" : undefined}
            onInput={(event) => (typed.value = event.currentTarget.value)}
            autofocus
          />
        </label>
        {refusal.value && (
          <p id="key-refusal" class="refusal" role="alert">
            {refusal.value}
          </p>
        )}
        <button class="button primary" type="submit" disabled={!typed.value.trim()}>
          Open
        </button>
      </form>
    </dialog>
  );
}

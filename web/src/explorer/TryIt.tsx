/** A form that asks an operation, and its answer. */

import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";

import { key } from "../server/key";
import { model } from "../server/pulse";
import { duration } from "../shell/words";
import type { Operation } from "./document";
import { bodyOf, headersOf, isGrave } from "./notes";
import { type Heard, tryIt, wantsKey } from "./trying";

export function TryIt({ operation }: { operation: Operation }) {
  const open = useSignal(false);
  return (
    <details class="try" onToggle={(event) => (open.value = event.currentTarget.open)}>
      <summary>Try it</summary>
      {open.value && <Form operation={operation} />}
    </details>
  );
}

function Form({ operation }: { operation: Operation }) {
  const { id, method, path, needsKey, parameters } = operation;
  const example = bodyOf(operation, model.value ?? "samosa-mini");
  const body = useSignal(example === undefined ? "" : JSON.stringify(example, null, 2));
  const headers = useSignal<Record<string, string>>({});
  const places = useSignal<Record<string, string>>(Object.fromEntries(parameters.map(({ name }) => [name, model.value ?? ""])));
  const heard = useSignal<Heard | null>(null);
  const trouble = useSignal("");
  const sure = useSignal(!isGrave(operation));
  const asking = useSignal<AbortController | null>(null);
  useEffect(() => () => asking.peek()?.abort(), []);
  const wrong = example === undefined ? "" : mistake(body.value);
  const send = async (event: Event) => {
    event.preventDefault();
    if (needsKey && !key.value) {
      wantsKey.value = true;
      return;
    }
    const stopper = new AbortController();
    asking.value = stopper;
    trouble.value = "";
    heard.value = null;
    const filled = path.replace(/\{(\w+)\}/g, (_, name: string) => encodeURIComponent(places.value[name] ?? ""));
    const given = Object.fromEntries(Object.entries(headers.value).filter(([, value]) => value !== ""));
    try {
      await tryIt({ method, path: filled, headers: given, body: example === undefined ? undefined : body.value, signal: stopper.signal }, (now) => (heard.value = now));
    } catch (error) {
      trouble.value = stopper.signal.aborted ? "Stopped." : `No answer: ${error instanceof Error ? error.message : String(error)}`;
    }
    asking.value = null;
  };
  return (
    <form onSubmit={send}>
      {parameters.map(({ name }) => (
        <Text key={name} label={name} value={places.value[name] ?? ""} set={(value) => (places.value = { ...places.value, [name]: value })} />
      ))}
      {headersOf(operation)
        .filter(({ canBeTried }) => canBeTried)
        .map(({ name }) => (
          <Text key={name} label={name} value={headers.value[name] ?? ""} set={(value) => (headers.value = { ...headers.value, [name]: value })} />
        ))}
      {example !== undefined && (
        <label class="field body">
          <span>Body</span>
          <textarea class="input mono" rows={Math.min(16, body.value.split("\n").length + 1)} spellcheck={false} value={body.value} aria-invalid={wrong ? "true" : undefined} aria-describedby={wrong ? `${id}-wrong` : undefined} onInput={(event) => (body.value = event.currentTarget.value)} />
          {wrong && (
            <span id={`${id}-wrong`} class="refusal small">
              {wrong}
            </span>
          )}
        </label>
      )}
      {isGrave(operation) && (
        <label class="sure">
          <input type="checkbox" checked={sure.value} onChange={(event) => (sure.value = event.currentTarget.checked)} /> It changes the model for everybody. Do it.
        </label>
      )}
      <div class="actions">
        <button class="button primary" type="submit" disabled={wrong !== "" || !sure.value || asking.value !== null}>
          Send
        </button>
        {asking.value && (
          <button class="button" type="button" onClick={() => asking.value?.abort()}>
            Stop
          </button>
        )}
      </div>
      {trouble.value && <p role="alert">{trouble.value}</p>}
      {heard.value && <Answer heard={heard.value} />}
    </form>
  );
}

function Text({ label, value, set }: { label: string; value: string; set: (value: string) => void }) {
  return (
    <label class="field">
      <span>{label}</span>
      <input class="input mono" spellcheck={false} value={value} onInput={(event) => set(event.currentTarget.value)} />
    </label>
  );
}

function Answer({ heard }: { heard: Heard }) {
  const { status, headers, head_ms, whole_ms, body } = heard;
  return (
    <div class="heard" role="group" aria-label="Answer">
      <p class="figures">
        <strong class={`status ${status < 400 ? "good" : "bad"}`}>{status}</strong> headers after {duration(head_ms)}
        {whole_ms !== null && `, all after ${duration(whole_ms)}`}
      </p>
      <details class="small">
        <summary>Headers</summary>
        <pre tabIndex={0}>{headers.map(([name, value]) => `${name}: ${value}`).join("\n")}</pre>
      </details>
      <pre tabIndex={0}>
        <code>{body}</code>
      </pre>
    </div>
  );
}

/** Why a text is no JSON, or nothing. */
function mistake(text: string): string {
  try {
    JSON.parse(text);
    return "";
  } catch (error) {
    return `This is not JSON: ${error instanceof Error ? error.message : String(error)}.`;
  }
}

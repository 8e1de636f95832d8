/** What can be served, what serves, and how one becomes the other. */

import "./models.css";

import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";

import { health, stats } from "../server/pulse";
import { key } from "../server/key";
import type { ModelInfo } from "../server/stats";
import { History } from "./History";
import { Serving } from "./Serving";
import { SwapPanel } from "./SwapPanel";
import { advice, catalog, follow, isRunning, latest, refusal, swapTo } from "./swapping";

/** From so many on, a list wants a filter. */
const MANY = 8;

export function ModelsView() {
  useEffect(() => (key.value ? follow() : undefined), [key.value]);
  const wanted = useSignal("");
  // The swap that was over before anybody looked is for the history alone.
  const known = useSignal(0);
  if (known.value === 0 && latest.value) {
    known.value = latest.value.swap_id;
  }
  const models = catalog.value?.models ?? [];
  const others = models.filter(({ model_tag, loaded }) => !loaded && model_tag.includes(wanted.value.trim()));
  const model = stats.value?.model;
  return (
    <div class="page models">
      <h1>Models</h1>
      {refusal.value && refusal.value.message !== latest.value?.reason && (
        <div class="notice" role="alert">
          <p>
            <strong>That was refused.</strong> {refusal.value.message} {advice(refusal.value)}
          </p>
        </div>
      )}
      {!model && health.value?.reason && (
        <div class="notice" role="alert">
          <p>
            <strong>No model serves:</strong> {health.value.reason}. A swap to any model below mends it.
          </p>
        </div>
      )}
      {latest.value && (isRunning.value || latest.value.reason || latest.value.swap_id !== known.value) && <SwapPanel swap={latest.value} />}
      {model && <Serving model={model} />}
      <section aria-labelledby="others">
        <div class="heading">
          <h2 id="others">{model ? "Others" : "What can be served"}</h2>
          {models.length > MANY && (
            <input class="input" type="search" aria-label="Filter models" placeholder="Filter" value={wanted.value} onInput={(event) => (wanted.value = event.currentTarget.value)} />
          )}
        </div>
        {others.length > 0 ? (
          <ul class="rows">
            {others.map((info) => (
              <Row key={info.model_tag} info={info} />
            ))}
          </ul>
        ) : (
          catalog.value && <p class="soft">{wanted.value ? "None is called so." : <Nothing />}</p>
        )}
      </section>
      <History />
    </div>
  );
}

function Nothing() {
  return (
    <>
      There is none beside it. <code>MODEL_STORAGE_PATH</code> says where models are, <code>models.toml</code> there and <code>HF_TAGS</code> where they can be fetched.
    </>
  );
}

function Row({ info }: { info: ModelInfo }) {
  const asking = useSignal(false);
  const { model_tag, source, path } = info;
  const identity = stats.value?.swap.history.find((swap) => swap.target_model === model_tag && swap.identity)?.identity;
  const swap = () => {
    asking.value = false;
    void swapTo(model_tag);
  };
  return (
    <li class="row">
      <div>
        <h3>{model_tag}</h3>
        <p class="soft small">
          <span class="badge">{source}</span> <span class="mono">{path}</span>
          {identity && <span class="mono"> · {identity.slice(0, 12)}</span>}
        </p>
      </div>
      {asking.value ? (
        <div class="asking" role="group" aria-label={`Swap to ${model_tag}?`}>
          <span class="small soft">Running answers end on the old weights.</span>
          <button class="button small" type="button" onClick={() => (asking.value = false)}>
            Not now
          </button>
          <button class="button small primary" type="button" onClick={swap} ref={(button) => button?.focus()}>
            Swap now
          </button>
        </div>
      ) : (
        <button class="button small" type="button" onClick={() => (asking.value = true)} disabled={isRunning.value && latest.value?.outcome === "running"} aria-label={`Swap to ${model_tag}`}>
          Swap
        </button>
      )}
    </li>
  );
}

/** How the next answers are drawn. An empty field is the service's own default, which it shows. */

import { stats } from "../server/pulse";
import { Icon } from "../shell/Icon";
import { choices, defaults, prefer } from "./sampling";

const SEED_DIGITS = /^\d{0,20}$/;

export function Settings({ close }: { close: () => void }) {
  const usual = stats.value?.settings ?? {};
  const most = { temperature: 2, top_k: 200, max_tokens: 4096 };
  return (
    <section class="settings" aria-label="Settings" onKeyDown={(event) => event.key === "Escape" && close()}>
      <div class="grid">
        <Numeric name="temperature" label="Temperature" step={0.1} min={0} max={most.temperature} usual={usual["default_temperature"] ?? "0.8"} hint="0 takes the likeliest" />
        <Numeric name="top_k" label="Top k" step={1} min={0} max={most.top_k} usual={usual["default_top_k"] ?? "50"} hint="Candidates; 0 keeps all" />
        <Numeric name="max_tokens" label="Longest answer" step={1} min={1} max={most.max_tokens} usual={usual["default_max_tokens"] ?? "512"} hint="Tokens" />
        <div class="field">
          <label for="setting-seed">Seed</label>
          <input
            id="setting-seed"
            class="input"
            aria-describedby="setting-seed-hint"
            inputMode="numeric"
            placeholder="new each time"
            value={choices.value.seed ?? ""}
            onInput={(event) => {
              const { value } = event.currentTarget;
              if (SEED_DIGITS.test(value)) {
                prefer("seed", value);
              } else {
                event.currentTarget.value = choices.value.seed ?? "";
              }
            }}
          />
          <small id="setting-seed-hint" class="soft">
            Same seed, same answer
          </small>
        </div>
      </div>
      <label class="field">
        <span>System message</span>
        <textarea class="input" rows={2} placeholder="none" value={choices.value.system ?? ""} onInput={(event) => prefer("system", event.currentTarget.value)} />
      </label>
      <div class="actions">
        <button class="button quiet small" type="button" onClick={defaults} disabled={Object.keys(choices.value).length === 0}>
          Back to the defaults
        </button>
        <button class="button small" type="button" onClick={close}>
          <Icon name="check" size={18} /> Done
        </button>
      </div>
    </section>
  );
}

interface NumericProps {
  name: "temperature" | "top_k" | "max_tokens";
  label: string;
  step: number;
  min: number;
  max: number;
  usual: string;
  hint: string;
}

function Numeric({ name, label, step, min, max, usual, hint }: NumericProps) {
  const set = (event: { currentTarget: HTMLInputElement }) => {
    const { value, valueAsNumber } = event.currentTarget;
    if (value === "") {
      prefer(name, undefined);
    } else if (Number.isFinite(valueAsNumber)) {
      const inside = Math.min(max, Math.max(min, valueAsNumber));
      prefer(name, step === 1 ? Math.round(inside) : inside);
    }
  };
  const shown = choices.value[name];
  const id = `setting-${name}`;
  return (
    <div class="field">
      <label for={id}>{label}</label>
      <input id={id} class="input" aria-describedby={`${id}-hint`} type="number" inputMode="decimal" step={step} min={min} max={max} placeholder={usual} value={shown ?? ""} onChange={set} />
      <small id={`${id}-hint`} class="soft">
        {hint}, {min} to {max}
      </small>
    </div>
  );
}

/** The model that serves, in full. */

import { CopyButton } from "../shell/CopyButton";
import { group } from "../shell/words";
import type { Model } from "../server/stats";

export function Serving({ model }: { model: Model }) {
  const facts: [string, string][] = [
    ["Architecture", `${model.architecture}, ${model.layers} layers of ${group(model.width)}`],
    ["Context", `${group(model.sequence_len)} tokens`],
    ["Vocabulary", `${group(model.vocabulary)} tokens`],
    ["Weights as", model.weight_format],
    ["Training step", model.step === null ? "not told" : group(model.step)],
    ["From", model.source],
  ];
  return (
    <section class="card serving-model" aria-labelledby="serving">
      <div>
        <p class="small soft">Serving</p>
        <h2 id="serving">{model.model_tag}</h2>
      </div>
      <dl>
        {facts.map(([name, value]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd>{value}</dd>
          </div>
        ))}
        <div class="identity">
          <dt>Identity</dt>
          <dd>
            <code title={model.sha256}>{model.sha256.slice(0, 12)}</code>
            <CopyButton name="Copy identity" text={model.sha256} />
          </dd>
        </div>
      </dl>
      {model.notes.map((note) => (
        <p key={note} class="small soft">
          {note}
        </p>
      ))}
    </section>
  );
}

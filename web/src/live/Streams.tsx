/** What each answer is doing. */

import type { Stats } from "../server/stats";
import { duration, group, number } from "../shell/words";

const PHASES = { queued: "waits", prefill: "reads", decode: "writes" };

export function Streams({ streams }: { streams: Stats["streams"] }) {
  if (!streams) {
    return null;
  }
  const { listed, total } = streams;
  return (
    <section aria-labelledby="streams">
      <h2 id="streams">Streams</h2>
      {listed.length === 0 ? (
        <p class="soft">Nobody is being answered.</p>
      ) : (
        <div class="scroll-x" tabIndex={0} role="group" aria-label="Streams, scrolls sideways">
          <table class="figures">
            <caption class="visually-hidden">Streams</caption>
            <thead>
              <tr>
                <th scope="col">Request</th>
                <th scope="col">Model</th>
                <th scope="col">Phase</th>
                <th scope="col" class="number">Prompt</th>
                <th scope="col" class="number">Tokens</th>
                <th scope="col" class="number">Tokens/s</th>
                <th scope="col" class="number">First after</th>
                <th scope="col" class="number">Since</th>
              </tr>
            </thead>
            <tbody>
              {listed.map((stream, i) => (
                <tr key={`${stream.request_id} ${i}`}>
                  <td class="mono" title={stream.request_id}>
                    {stream.request_id.slice(0, 12)}
                  </td>
                  <td>{stream.model_tag}</td>
                  <td>
                    <span class={`badge ${stream.phase === "decode" ? "good" : "busy"}`}>{PHASES[stream.phase]}</span>
                  </td>
                  <td class="number">{group(stream.prompt_tokens)}</td>
                  <td class="number">
                    {group(stream.completion_tokens)} <span class="soft">of {group(stream.max_tokens)}</span>
                  </td>
                  <td class="number">{stream.tokens_per_second === null ? "–" : number(stream.tokens_per_second)}</td>
                  <td class="number">{stream.first_token_ms === null ? "–" : duration(stream.first_token_ms)}</td>
                  <td class="number">{duration(stream.elapsed_ms)}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
      {total > listed.length && (
        <p class="soft small">
          The {listed.length} oldest of {total}.
        </p>
      )}
    </section>
  );
}

/** The swaps that the service remembers, the latest first. */

import { stats } from "../server/pulse";
import type { Swap } from "../server/stats";
import { duration, moment } from "../shell/words";
import { outcome, PHASES, steps, total } from "./phases";

export function History() {
  const swaps = stats.value?.swap.history ?? [];
  return (
    <section aria-labelledby="history">
      <h2 id="history">History of swaps</h2>
      <div class="scroll-x" tabIndex={0} role="group" aria-label="History of swaps, scrolls sideways">
        <table class="history">
          <caption class="visually-hidden">History of swaps</caption>
          <thead>
            <tr>
              <th scope="col">When</th>
              <th scope="col">From</th>
              <th scope="col">To</th>
              <th scope="col">Outcome</th>
              <th scope="col" class="number">
                Took
              </th>
              <th scope="col">Identity</th>
            </tr>
          </thead>
          <tbody>
            {swaps.map((swap) => (
              <Row key={swap.swap_id} swap={swap} />
            ))}
          </tbody>
        </table>
      </div>
    </section>
  );
}

function Row({ swap }: { swap: Swap }) {
  const { word, tone } = outcome(swap);
  return (
    <tr>
      <td class="figures">{moment(swap.started)}</td>
      <td>{swap.previous_model ?? "–"}</td>
      <td>{swap.target_model}</td>
      <td>
        <span class={`badge ${tone}`}>{word}</span>
        <details class="small">
          <summary>{swap.reason ? "Why, and its phases" : "Phases"}</summary>
          {swap.reason && <p>{swap.reason}</p>}
          <ul>
            {steps(swap).map(({ phase, seconds, state }) => (
              <li key={phase}>
                {PHASES[phase] ?? phase}: {state === "failed" ? "failed" : seconds === null ? "not yet" : duration(seconds * 1000)}
              </li>
            ))}
          </ul>
        </details>
      </td>
      <td class="number">{duration(total(swap) * 1000)}</td>
      <td class="mono">{swap.identity?.slice(0, 12) ?? "–"}</td>
    </tr>
  );
}

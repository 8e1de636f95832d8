/** One swap as it happens, or how it failed. */

import { useEffect, useRef } from "preact/hooks";

import { stats } from "../server/pulse";
import type { Swap } from "../server/stats";
import { bytes, duration } from "../shell/words";
import { outcome, PHASES, sentence, type Step, steps } from "./phases";

export function SwapPanel({ swap }: { swap: Swap }) {
  const { word, tone } = outcome(swap);
  const said = sentence(swap, stats.value?.retired_engines ?? 0);
  return (
    <section class={`card swap ${tone}`} aria-label="Swap">
      <div class="heading">
        <h2>
          {swap.previous_model ?? "Nothing"} <span class="soft">to</span> {swap.target_model}
        </h2>
        <span class={`badge ${tone}`}>{word}</span>
      </div>
      <p role="status">{said}</p>
      {swap.reason && <p class="reason">{swap.reason}</p>}
      <ol class="steps">
        {steps(swap).map((step) => (
          <Phase key={step.phase} step={step} />
        ))}
      </ol>
      {swap.phase === "download" && swap.download && <Download progress={swap.download} />}
    </section>
  );
}

const SIGNS = { done: "✓", running: "", failed: "×", waiting: "" };
const SAID = { done: "done", running: "running", failed: "failed", waiting: "to come" };

function Phase({ step }: { step: Step }) {
  const { phase, state, seconds } = step;
  return (
    <li class={state} aria-current={state === "running" ? "step" : undefined}>
      <i aria-hidden="true">{SIGNS[state]}</i>
      <span>
        {PHASES[phase] ?? phase}
        <span class="visually-hidden">, {SAID[state]}</span>
      </span>
      {seconds !== null && <small class="soft figures">{duration(seconds * 1000)}</small>}
    </li>
  );
}

/** How far a download is; its pace is that of the last seconds. */
function Download({ progress }: { progress: NonNullable<Swap["download"]> }) {
  const { bytes_done, bytes_total, files_done, files_total, bytes_resumed, retries } = progress;
  const pace = usePace(bytes_done);
  const left = pace > 0 ? ((bytes_total - bytes_done) / pace) * 1000 : null;
  return (
    <div class="download">
      <progress value={bytes_done} max={Math.max(bytes_total, 1)} aria-label="Download" />
      <p class="small soft figures">
        {bytes(bytes_done)} of {bytes(bytes_total)}, {files_done} of {files_total} files
        {pace > 0 && `, ${bytes(pace)}/s`}
        {left !== null && left > 0 && `, ${duration(left)} left`}
        {bytes_resumed > 0 && `, ${bytes(bytes_resumed)} were there`}
        {retries > 0 && `, tried again ${retries} times`}
      </p>
    </div>
  );
}

const PACE_MS = 4000;

/** Units a second over the last looks. */
function usePace(done: number): number {
  const seen = useRef<{ at: number; done: number }[]>([]);
  useEffect(() => {
    const now = performance.now();
    seen.current = [...seen.current, { at: now, done }].filter(({ at }) => now - at < PACE_MS);
  });
  const first = seen.current[0];
  const seconds = first ? (performance.now() - first.at) / 1000 : 0;
  return first && seconds > 0.5 ? (done - first.done) / seconds : 0;
}

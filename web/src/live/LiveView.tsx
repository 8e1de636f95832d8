/** The machine at work: figures, charts, and what each answer is doing. */

import "./live.css";

import { useSignal } from "@preact/signals";
import { useEffect, useMemo } from "preact/hooks";

import { key } from "../server/key";
import { away } from "../server/pulse";
import type { Chart, Shown } from "./chart";
import { ChartPanel } from "./ChartPanel";
import { Counts } from "./Counts";
import { windowed } from "./history";
import { Now } from "./Now";
import { type Panel, PANELS } from "./panels";
import { Streams } from "./Streams";
import { figures, history, paused, trouble, watch } from "./watching";

const MINUTES = [1, 5, 15, 30];

export function LiveView() {
  const minutes = useSignal(5);
  const make = useSignal<typeof Chart | null>(null);
  useEffect(() => (key.value ? watch() : undefined), [key.value]);
  useEffect(() => {
    // Whoever only chats fetches no charts.
    void import("./chart").then(({ Chart }) => (make.value = Chart));
  }, []);
  const stats = figures.value;
  return (
    <div class="page live">
      <div class="heading">
        <h1>Live</h1>
        <div class="choices" role="group" aria-label="Minutes shown">
          {MINUTES.map((one) => (
            <button key={one} class="button small" type="button" aria-pressed={minutes.value === one} onClick={() => (minutes.value = one)}>
              {one} min
            </button>
          ))}
          <button class="button small" type="button" onClick={() => (paused.value = !paused.value)}>
            {paused.value ? "Go on" : "Pause"}
          </button>
        </div>
      </div>
      {away.value && (
        <p class="notice" role="alert">
          The service cannot be reached. What is drawn is what it said last; it goes on when it is back.
        </p>
      )}
      {trouble.value && (
        <p class="notice" role="alert">
          {trouble.value}
        </p>
      )}
      {stats && <Now stats={stats} />}
      {make.value && history.value && <Charts make={make.value} seconds={minutes.value * 60} />}
      {stats && <Streams streams={stats.streams} />}
      {stats && <Counts stats={stats} />}
    </div>
  );
}

function Charts({ make, seconds }: { make: typeof Chart; seconds: number }) {
  const known = history.value;
  const all = useMemo(() => (known ? PANELS.map((panel) => ({ panel, shown: shownOf(panel, seconds) })) : []), [known, seconds]);
  return (
    <div class="charts">
      {all.map(({ panel, shown }) => (
        <ChartPanel key={panel.title} panel={panel} make={make} shown={shown} />
      ))}
    </div>
  );
}

function shownOf({ lines }: Panel, seconds: number): Shown {
  const known = history.value;
  if (!known) {
    return { columns: [], begin: 0, end: 1, swaps: [] };
  }
  const swaps = known.swaps.filter(({ live }) => live !== null).map(({ live, target_model }) => ({ at: live ?? 0, target: target_model }));
  const names = lines.map(({ column }) => column);
  return { columns: windowed(known, seconds, names), begin: known.now - seconds, end: known.now, swaps };
}

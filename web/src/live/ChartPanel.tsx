/** A chart with its title, its legend in words, and the values where the cursor is. */

import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";

import { shown as theme } from "../shell/theme";
import type { Chart, Shown } from "./chart";
import type { Panel } from "./panels";

interface Props {
  panel: Panel;
  /** The class, once it has been fetched. */
  make: typeof Chart;
  shown: Shown;
}

export function ChartPanel({ panel, make, shown }: Props) {
  const box = useRef<HTMLDivElement>(null);
  const chart = useRef<Chart | null>(null);
  const at = useSignal<number | null>(null);
  useEffect(() => {
    const element = box.current;
    if (!element) {
      return;
    }
    const drawn = new make(element, panel, (index) => (at.value = index));
    chart.current = drawn;
    const sizes = new ResizeObserver(() => drawn.resize(element.clientWidth));
    sizes.observe(element);
    return () => {
      sizes.disconnect();
      drawn.end();
    };
  }, [make, panel]);
  useEffect(() => chart.current?.show(shown), [shown]);
  useEffect(() => chart.current?.redraw(), [theme.value]);
  return (
    <figure class="card chart" aria-label={panel.title}>
      <figcaption>
        <h2>{panel.title}</h2>
        <ul class="figures">
          {panel.lines.map((line, i) => (
            <li key={line.column}>
              <i class={`series-${line.series} ${i === 1 ? "dashed" : ""}`} aria-hidden="true" />
              {line.name} <strong>{value(shown.columns[i + 1], at.value, panel)}</strong>
            </li>
          ))}
        </ul>
      </figcaption>
      <div ref={box} role="img" aria-label={summary(panel, shown)} />
    </figure>
  );
}

/** The value where the cursor is, or the last one. */
function value(column: (number | null)[] | undefined, at: number | null, { read, scale = 1 }: Panel): string {
  const found = column?.[at ?? column.length - 1] ?? null;
  return found === null ? "–" : read(found * scale);
}

/** What the picture shows, for those who do not see it. */
function summary(panel: Panel, { columns }: Shown): string {
  const lines = panel.lines.map(({ name }, i) => {
    const values = (columns[i + 1] ?? []).filter((one): one is number => one !== null);
    const most = Math.max(...values) * (panel.scale ?? 1);
    return values.length === 0 ? `${name}: nothing measured` : `${name}: now ${value(columns[i + 1], null, panel)}, at most ${panel.read(most)}`;
  });
  return `${panel.title}. ${lines.join("; ")}.`;
}

/** The last half hour: what the service remembers of it, and what came since. */

import type { History } from "../server/stats";

/** Rows that are kept: half an hour of seconds. */
const ROWS = 1800;
/** Seconds without a sample that a line does not go across. */
const GAP_S = 5;

/** With newer samples at the end; the oldest go. A service that began anew has swaps of its own. */
export function merged(before: History | null, more: History): History {
  if (!before) {
    return more;
  }
  const last = before.samples.at.at(-1) ?? -Infinity;
  const from = more.samples.at.findIndex((at) => at > last);
  const samples: History["samples"] = { at: [] };
  for (const name of Object.keys(more.samples)) {
    const old = before.samples[name] ?? before.samples.at.map(() => null);
    const came = from < 0 ? [] : (more.samples[name] ?? []).slice(from);
    samples[name] = [...old, ...came].slice(-ROWS);
  }
  return { ...more, samples };
}

/** Columns of the last `seconds`, with a row of nothing wherever nobody measured. */
export function windowed(history: History, seconds: number, names: string[]): (number | null)[][] {
  const { at } = history.samples;
  const begin = history.now - seconds;
  const first = at.findIndex((time) => time >= begin);
  const columns: (number | null)[][] = [[], ...names.map((): (number | null)[] => [])];
  for (let i = first < 0 ? at.length : first; i < at.length; i += 1) {
    const time = at[i] ?? 0;
    const before = at[i - 1];
    if (i > first && before !== undefined && time - before > GAP_S) {
      columns.forEach((column, j) => column.push(j === 0 ? before + 1 : null));
    }
    columns.forEach((column, j) => column.push(j === 0 ? time : (history.samples[names[j - 1] ?? ""]?.[i] ?? null)));
  }
  return columns;
}

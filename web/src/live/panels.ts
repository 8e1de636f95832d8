/** The charts: what each draws, in which unit, and how it is read. */

import { bytes, duration, number } from "../shell/words";

export interface Line {
  /** A column of the history. */
  column: string;
  name: string;
  /** A colour of the design: `--series-N`. */
  series: 1 | 2 | 3 | 4;
}

export interface Panel {
  title: string;
  lines: Line[];
  /** A value as it is read. */
  read: (value: number) => string;
  /** What the values are multiplied with, as for shares in percent. */
  scale?: number;
  /** The least that the top of the chart stands for. */
  top?: number;
}

const perSecond = (value: number) => `${number(value)}/s`;
const whole = (value: number) => number(Math.round(value));
const share = (value: number) => `${number(Math.round(value))}\u202f%`;

export const PANELS: Panel[] = [
  {
    title: "Tokens per second",
    lines: [
      { column: "tokens_per_second", name: "answers", series: 1 },
      { column: "prompt_tokens_per_second", name: "prompts", series: 4 },
    ],
    read: perSecond,
    top: 10,
  },
  {
    title: "Load",
    lines: [
      { column: "running", name: "answered", series: 2 },
      { column: "queued", name: "waiting", series: 1 },
    ],
    read: whole,
    top: 4,
  },
  {
    title: "Time to first token",
    lines: [
      { column: "first_token_ms_p50", name: "median", series: 2 },
      { column: "first_token_ms_p95", name: "p95", series: 1 },
    ],
    read: duration,
    top: 1,
  },
  {
    title: "Time between tokens",
    lines: [
      { column: "inter_token_ms_p50", name: "median", series: 2 },
      { column: "inter_token_ms_p95", name: "p95", series: 1 },
    ],
    read: duration,
    top: 1,
  },
  { title: "KV pages", lines: [{ column: "kv_pages_used", name: "in use", series: 4 }], read: whole, top: 8 },
  { title: "Prefix hits", lines: [{ column: "prefix_hit_rate", name: "hits", series: 3 }], read: share, scale: 100, top: 100 },
  { title: "Refusals", lines: [{ column: "refusals_per_second", name: "refusals", series: 1 }], read: perSecond, top: 1 },
  { title: "Memory", lines: [{ column: "resident_bytes", name: "resident", series: 4 }], read: bytes, top: 64e6 },
];

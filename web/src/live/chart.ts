/** One chart over time, drawn by uPlot in the design's colours, with a mark for each swap. */

import "uplot/dist/uPlot.min.css";

import uPlot from "uplot";

import type { Panel } from "./panels";

/** What a chart shows: columns, the window in seconds since 1970, and swaps. */
export interface Shown {
  columns: (number | null)[][];
  begin: number;
  end: number;
  swaps: { at: number; target: string }[];
}

const SYNC = uPlot.sync("live");
const HEIGHT = 150;
const AXIS = 58;

export class Chart {
  private plot: uPlot | null = null;
  private shown: Shown = { columns: [], begin: 0, end: 1, swaps: [] };

  constructor(
    private readonly box: HTMLElement,
    private readonly panel: Panel,
    /** Told where the cursor is: an index into the columns, or null. */
    private readonly pointed: (index: number | null) => void,
  ) {}

  show(shown: Shown): void {
    this.shown = shown;
    const { scale = 1 } = this.panel;
    const data = shown.columns.map((column, i) => (i === 0 || scale === 1 ? column : column.map((value) => value && value * scale)));
    this.plot ??= new uPlot(this.options(), data as uPlot.AlignedData, this.box);
    this.plot.setData(data as uPlot.AlignedData, false);
    this.plot.batch(() => {
      this.plot?.setScale("x", { min: shown.begin, max: shown.end });
      this.plot?.setScale("y", this.range(data.slice(1)));
    });
  }

  /** Drawn anew, as after a change of colours. */
  redraw(): void {
    this.end();
    this.show(this.shown);
  }

  resize(width: number): void {
    this.plot?.setSize({ width, height: HEIGHT });
  }

  end(): void {
    this.plot?.destroy();
    this.plot = null;
  }

  private range(columns: (number | null)[][]): { min: number; max: number } {
    const highest = columns.flat().reduce<number>((most, value) => Math.max(most, value ?? 0), 0);
    return { min: 0, max: Math.max(this.panel.scale === 100 ? 100 : highest * 1.15, this.panel.top ?? 0, 1e-9) };
  }

  private options(): uPlot.Options {
    const colour = (name: string) => getComputedStyle(this.box).getPropertyValue(name).trim();
    const axis = { stroke: colour("--ink-soft"), font: "12px Figtree, sans-serif", gap: 4, ticks: { show: false } };
    const grid = { stroke: colour("--line"), width: 1 };
    return {
      width: this.box.clientWidth,
      height: HEIGHT,
      padding: [8, 8, 0, 0],
      legend: { show: false },
      cursor: { sync: { key: SYNC.key }, y: false, drag: { x: false, y: false }, points: { size: 7 } },
      scales: { x: { auto: false }, y: { auto: false } },
      axes: [
        { ...axis, grid: { show: false }, space: 80, size: 24, values: (_, times) => times.map((time) => this.clock(time)) },
        { ...axis, grid, size: AXIS, space: 34, values: (_, values) => values.map((value) => this.panel.read(value)) },
      ],
      series: [
        {},
        ...this.panel.lines.map(({ name, series }, i) => ({
          label: name,
          stroke: colour(`--series-${series}`),
          width: 2,
          // The second of two lines is told apart without its colour too.
          dash: i === 1 ? [6, 4] : [],
          points: { show: false },
          spanGaps: false,
        })),
      ],
      hooks: {
        draw: [(plot) => this.drawSwaps(plot)],
        setCursor: [(plot) => this.pointed(plot.cursor.idx ?? null)],
      },
    };
  }

  /** The reader's own time of day, with seconds where there is room for them. */
  private clock(time: number): string {
    const isShort = this.shown.end - this.shown.begin <= 120;
    const second = isShort ? { second: "2-digit" as const } : {};
    return new Date(time * 1000).toLocaleTimeString(undefined, { hour: "2-digit", minute: "2-digit", hourCycle: "h23", ...second });
  }

  /** A line for each swap, and its name where the next one leaves room. */
  private drawSwaps({ ctx, bbox, valToPos }: uPlot): void {
    const ratio = devicePixelRatio;
    ctx.save();
    ctx.textAlign = "left";
    ctx.strokeStyle = ctx.fillStyle = getComputedStyle(this.box).getPropertyValue("--ink-soft").trim();
    ctx.setLineDash([2 * ratio, 3 * ratio]);
    ctx.font = `${11 * ratio}px Figtree, sans-serif`;
    const seen = this.shown.swaps.filter(({ at }) => at >= this.shown.begin && at <= this.shown.end).sort((a, b) => a.at - b.at);
    for (const [i, { at, target }] of seen.entries()) {
      const x = valToPos(at, "x", true);
      const next = seen[i + 1] ? valToPos(seen[i + 1]?.at ?? 0, "x", true) : Infinity;
      ctx.beginPath();
      ctx.moveTo(x, bbox.top);
      ctx.lineTo(x, bbox.top + bbox.height);
      ctx.stroke();
      const width = ctx.measureText(target).width;
      if (next - x > width + 8 * ratio) {
        ctx.fillText(target, Math.min(x + 4 * ratio, bbox.left + bbox.width - width), bbox.top + 10 * ratio);
      }
    }
    ctx.restore();
  }
}

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
const AXIS = 44;

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
    const axis = { stroke: colour("--ink-soft"), font: "12px Figtree, sans-serif", ticks: { show: false } };
    const grid = { stroke: colour("--line"), width: 1 };
    return {
      width: this.box.clientWidth,
      height: HEIGHT,
      padding: [8, 8, 0, 0],
      legend: { show: false },
      cursor: { sync: { key: SYNC.key }, y: false, drag: { x: false, y: false }, points: { size: 7 } },
      scales: { x: { auto: false }, y: { auto: false } },
      axes: [
        { ...axis, grid: { show: false }, space: 70, size: 24 },
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

  private drawSwaps({ ctx, bbox, valToPos }: uPlot): void {
    const ratio = devicePixelRatio;
    ctx.save();
    ctx.strokeStyle = ctx.fillStyle = getComputedStyle(this.box).getPropertyValue("--ink-soft").trim();
    ctx.setLineDash([2 * ratio, 3 * ratio]);
    ctx.font = `${11 * ratio}px Figtree, sans-serif`;
    for (const { at, target } of this.shown.swaps.filter(({ at }) => at >= this.shown.begin && at <= this.shown.end)) {
      const x = valToPos(at, "x", true);
      ctx.beginPath();
      ctx.moveTo(x, bbox.top);
      ctx.lineTo(x, bbox.top + bbox.height);
      ctx.stroke();
      const width = ctx.measureText(target).width;
      ctx.fillText(target, Math.min(x + 4 * ratio, bbox.left + bbox.width - width), bbox.top + 10 * ratio);
    }
    ctx.restore();
  }
}

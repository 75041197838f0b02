// The sweep of one channel of a live waveform, as on a bedside monitor: the trace is drawn from left to right, an erase bar
// precedes it, and it starts again at the left edge.
//
// The horizontal position is the time modulo the duration of the picture, so that late samples are drawn where they belong and
// all traces of the same width are in step. Each frame draws only new columns of pixels, and columns with late samples.
//
// Invariants: a gap in the samples is a gap in the trace. A trace without new samples for `STOP_US`, or without a connection,
// has another colour, an edge and a text, so that it never looks live. The memory is bounded.

import { resolved, zoom } from './colors';
import { History } from './history';
import { Playout, STOP_US } from './playout';

/** Pixels per millimetre of paper, at a zoom of 1. A whole number, so that lines of a millimetre grid are sharp. */
export const PIXELS_PER_MM = 4;
/** The width of the erase bar in pixels, at a zoom of 1. */
const ERASE_BAR = 14;
/** How far the line of a sample reaches into the columns beside it, in columns. */
const REACH = 3;
/** The number of cells per column above which only the extremes of each column are drawn. */
const MAX_CELLS_PER_COLUMN = 2.5;
/** The width of a trace in pixels, at a zoom of 1. */
const THICKNESS = 1.5;
/** The time between two checks of the vertical scale in microseconds. */
const FIT_US = 1_000_000;
/** The share of the height that a fitted trace fills. */
const FILL = 0.82;
/** Gains of ECG leads in millimetres per millivolt. The largest that fits is used. */
const GAINS = [10, 5, 2.5, 1.25, 0.5, 0.2];
/** Time beyond the visible part that is kept for late samples, in seconds. */
const SPARE_S = 4;
/** Samples that are later than this after the current time are ignored: a wrong clock must not clear the trace. */
const MAX_AHEAD_US = 10_000_000;

export interface SweepOptions {
  /** Seconds from the left to the right edge. Alternative to `mmPerSecond`. */
  secondsPerScreen?: number;
  /** Paper speed. The standard is 25. */
  mmPerSecond?: number;
  /** A CSS colour or the name of a CSS variable, such as `--ecg`. */
  color: string;
  /** The colour of a trace that has stopped. */
  stoppedColor?: string;
  /** The background of the text of a trace that has stopped, and the colour of its edge. */
  markColor?: string;
  /** The text on `markColor`. */
  markTextColor?: string;
  /** Whether an erase bar precedes the trace. The default is yes. */
  erase?: boolean;
  /** The seconds that are kept. The default is what is visible. */
  keptSeconds?: number;
  /** `fit`: the range fills the height. A number: units of the channel per millivolt; the trace has a gain in mm/mV. */
  scale?: 'fit' | number;
  /** The smallest range that fills the height, in the unit of the channel, so that noise does not fill it. */
  minSpan?: number;
  /** The jitter buffer that all channels of a stream share. */
  playout?: Playout;
  /** The text of a trace that has stopped. Empty: no text. The default is `no signal since 14:03:22`. */
  stoppedText?: (sinceUs: number) => string;
}

export type SignalState = 'waiting' | 'live' | 'lead_off' | 'stopped';

function modulo(value: number, by: number): number {
  return ((value % by) + by) % by;
}

/** The local time of day of a time in microseconds since 1970: `14:03:22`. */
export function timeOfDay(us: number): string {
  const at = new Date(us / 1000);
  const two = (part: number): string => String(part).padStart(2, '0');
  return `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
}

export class Sweep {
  private readonly context: CanvasRenderingContext2D;
  private options: SweepOptions;
  private history: History | undefined;
  /** The samples at the time of the freeze. */
  private frozen: { history: History | undefined; headUs: number | undefined } | undefined;
  private readonly playout: Playout;
  private nowUs: () => number = () => Date.now() * 1000;
  private arrivedUs = -Infinity;
  private isConnected = true;
  private width = 1;
  private height = 1;
  /** Device pixels per CSS pixel. */
  private pixels = 1;
  /** Device pixels per pixel of the lengths above. */
  private ratio = 1;
  private colors = { trace: '', stopped: '', mark: '', markText: '' };
  /** The value in the middle of the picture. */
  private centre = 0;
  /** Device pixels per unit of the channel. */
  private pixelsPerUnit = 0;
  private gainMmPerMv: number | undefined;
  private fittedUs = -Infinity;
  /** The column of the playhead in the picture, counted from 1970. `undefined`: the whole picture has to be drawn. */
  private drawn: number | undefined;
  private drawnState: SignalState | undefined;
  private isEmpty = false;
  /** The number of columns that were drawn since the start, for measurements. */
  columnsDrawn = 0;

  constructor(
    readonly canvas: HTMLCanvasElement,
    options: SweepOptions,
  ) {
    const context = canvas.getContext('2d');
    if (context === null) throw new Error('this browser has no canvas');
    this.context = context;
    this.options = options;
    this.playout = options.playout ?? new Playout();
    this.restyle();
    this.resize();
  }

  /** Sets the clock: server time in microseconds since 1970. */
  setClock(nowUs: () => number): void {
    this.nowUs = nowUs;
  }

  /** Changes options. The samples are kept. */
  setOptions(options: Partial<Omit<SweepOptions, 'playout'>>): void {
    this.options = { ...this.options, ...options };
    this.fittedUs = -Infinity;
    this.restyle();
  }

  /** Adds columns of an overview. `columnUs` is the width of a column. NaN: a gap. */
  pushColumns(startUs: number, columnUs: number, min: Float32Array, max: Float32Array, leadOff = false): void {
    this.push(startUs, columnUs, min, max, leadOff, true);
  }

  /** Adds samples in the unit of the channel. NaN: a gap. */
  pushSamples(startUs: number, periodUs: number, values: Float32Array, leadOff = false): void {
    this.push(startUs, periodUs, values, values, leadOff, false);
  }

  /** Fills a gap with stored samples. The trace does not look live because of them. */
  fillSamples(startUs: number, periodUs: number, values: Float32Array, leadOff = false): void {
    const known = this.history;
    if (known === undefined || known.periodUs !== periodUs || known.isColumns) return;
    known.push(startUs, values, values, leadOff);
  }

  private push(
    startUs: number,
    periodUs: number,
    min: Float32Array,
    max: Float32Array,
    leadOff: boolean,
    isColumns: boolean,
  ): void {
    const now = this.nowUs();
    if (!(periodUs > 0) || min.length === 0 || startUs > now + MAX_AHEAD_US) return;
    const seconds = this.options.keptSeconds ?? this.visibleSeconds() + SPARE_S;
    const known = this.history;
    if (known === undefined || known.periodUs !== periodUs || known.isColumns !== isColumns || known.seconds < seconds) {
      this.history = new History(periodUs, seconds, isColumns);
      this.drawn = undefined;
    }
    if (this.history?.push(startUs, min, max, leadOff) === true) this.arrivedUs = now;
    this.playout.received(startUs, startUs + min.length * periodUs, now);
  }

  /** Without a connection to the server, the trace stops at once. */
  setConnected(isConnected: boolean): void {
    this.isConnected = isConnected;
  }

  /** The state of the signal. */
  state(nowUs = this.nowUs()): SignalState {
    if (this.history?.endUs() === undefined) return 'waiting';
    if (!this.isConnected || nowUs - this.arrivedUs >= STOP_US) return 'stopped';
    return this.history.isLeadOff(nowUs - this.playout.delayUs) ? 'lead_off' : 'live';
  }

  /** The end of the last sample in microseconds since 1970. */
  endUs(): number | undefined {
    return this.history?.endUs();
  }

  /** The gain of an ECG lead in mm/mV. `undefined` for a trace that is fitted to the height. */
  get gain(): number | undefined {
    return this.gainMmPerMv;
  }

  /** Memory of the samples in bytes. */
  get bytes(): number {
    return (this.history?.bytes ?? 0) + (this.frozen?.history?.bytes ?? 0);
  }

  /** Freezes the trace, or continues it. The samples go on arriving meanwhile. A frozen trace ends at the right edge. */
  freeze(on: boolean): void {
    if (on === (this.frozen !== undefined)) return;
    this.frozen = on ? { history: this.history?.copy(), headUs: this.playout.advance(this.nowUs()) } : undefined;
    this.drawn = undefined;
  }

  get isFrozen(): boolean {
    return this.frozen !== undefined;
  }

  /** The time at a horizontal position in CSS pixels of a frozen trace, in microseconds since 1970. */
  timeAt(x: number): number | undefined {
    const head = this.frozen?.headUs;
    if (head === undefined) return undefined;
    return ((this.column(head) + 1 - this.width + x * this.pixels) / this.columnsPerSecond()) * 1e6;
  }

  /** The horizontal position in CSS pixels of a time in microseconds since 1970, in a frozen trace. */
  xOf(us: number): number | undefined {
    const head = this.frozen?.headUs;
    if (head === undefined) return undefined;
    return (us * 1e-6 * this.columnsPerSecond() - (this.column(head) + 1 - this.width)) / this.pixels;
  }

  /** The value at a vertical position in CSS pixels, in the unit of the channel. `undefined` without a scale. */
  valueAt(y: number): number | undefined {
    if (this.pixelsPerUnit === 0) return undefined;
    return this.centre + (this.height / 2 - y * this.pixels) / this.pixelsPerUnit;
  }

  /** Seconds from the left to the right edge. */
  visibleSeconds(): number {
    return this.width / this.columnsPerSecond();
  }

  /** Takes the size of the canvas on the page. The next call of `render` draws the whole picture. */
  resize(): void {
    const pixels = globalThis.devicePixelRatio || 1;
    const ratio = pixels * zoom();
    const width = Math.max(1, Math.round(this.canvas.clientWidth * pixels));
    const height = Math.max(1, Math.round(this.canvas.clientHeight * pixels));
    if (width === this.width && height === this.height && ratio === this.ratio) return;
    this.width = this.canvas.width = width;
    this.height = this.canvas.height = height;
    this.pixels = pixels;
    this.ratio = ratio;
    this.drawn = undefined;
    this.isEmpty = false;
    this.fittedUs = -Infinity;
  }

  /** Takes the colours of the theme. */
  restyle(): void {
    const color = (text: string): string => resolved(this.canvas, text);
    this.colors = {
      trace: color(this.options.color),
      stopped: color(this.options.stoppedColor ?? '--stopped'),
      mark: color(this.options.markColor ?? '--technical'),
      markText: color(this.options.markTextColor ?? '--on-technical'),
    };
    this.drawn = undefined;
  }

  /** Forgets all samples and frees their memory. */
  destroy(): void {
    this.history = undefined;
    this.frozen = undefined;
    this.drawn = undefined;
  }

  private columnsPerSecond(): number {
    const seconds = this.options.secondsPerScreen;
    if (seconds !== undefined && seconds > 0) return this.width / seconds;
    return (this.options.mmPerSecond ?? 25) * PIXELS_PER_MM * this.ratio;
  }

  private column(us: number): number {
    return Math.floor(us * 1e-6 * this.columnsPerSecond());
  }

  private columnUs(column: number): number {
    return (column / this.columnsPerSecond()) * 1e6;
  }

  private eraseBar(): number {
    if (this.frozen !== undefined || this.options.erase === false) return 0;
    return Math.min(Math.round(ERASE_BAR * this.ratio), this.width >> 2);
  }

  private oldest(head: number): number {
    return head + 1 + this.eraseBar() - this.width;
  }

  /** Draws what has changed since the last call. Returns whether anything was drawn. */
  render(): boolean {
    const now = this.nowUs();
    const state = this.state(now);
    const history = this.frozen ? this.frozen.history : this.history;
    const headUs = this.frozen ? this.frozen.headUs : this.playout.advance(now);
    if (history === undefined || headUs === undefined || history.endUs() === undefined) {
      if (this.isEmpty) return false;
      this.context.clearRect(0, 0, this.width, this.height);
      this.isEmpty = true;
      return true;
    }
    this.isEmpty = false;
    const tail = this.frozen === undefined && state === 'stopped' ? 'stopped' : 'live';
    if (tail !== this.drawnState) {
      this.drawnState = tail;
      this.drawn = undefined;
    }
    if (this.pixelsPerUnit === 0 || (now - this.fittedUs >= FIT_US && tail === 'live')) this.fit(history, headUs, now);
    const head = this.column(headUs);
    const changed = history.takeChanged();
    if (tail === 'stopped' && (changed !== undefined || this.drawn !== head)) this.drawn = undefined;
    if (this.drawn === head && changed === undefined) return false;
    const step = this.drawn === undefined ? -1 : head - this.drawn;
    if (this.drawn !== undefined && this.frozen === undefined && step >= 0 && step < this.width) {
      if (step > 0) {
        // The line to the last sample before the playhead was not complete.
        const last = history.numberAt(this.columnUs(this.drawn + 1));
        const from = Math.min(this.column(history.timeUs(last - 1)), this.drawn) - REACH;
        this.drawColumns(history, Math.max(from, this.oldest(head)), head, head);
        this.clear(Math.max(head, this.drawn + this.eraseBar()) + 1, head + this.eraseBar());
      }
      if (changed !== undefined) {
        const from = this.column(history.timeUs(changed[0] - 1)) - REACH;
        const to = this.column(history.timeUs(changed[1] + 1)) + REACH;
        this.drawColumns(history, Math.max(from, this.oldest(head)), Math.min(to, this.drawn), head);
      }
    } else {
      this.context.clearRect(0, 0, this.width, this.height);
      this.drawColumns(history, this.oldest(head), head, head);
    }
    if (this.drawn === undefined && tail === 'stopped') this.drawEnd(history, head);
    this.drawn = head;
    return true;
  }

  /** The horizontal position of a column in device pixels. */
  private place(column: number, head: number): number {
    return this.frozen === undefined ? modulo(column, this.width) : column - (head + 1 - this.width);
  }

  /** Calls `action` for each part of a range of columns that is contiguous in the picture. */
  private parts(from: number, to: number, head: number, action: (from: number, to: number, x: number) => void): void {
    let at = Math.max(from, to - this.width + 1);
    while (at <= to) {
      const x = this.place(at, head);
      const last = Math.min(to, at + this.width - x - 1);
      action(at, last, x);
      at = last + 1;
    }
  }

  private clear(from: number, to: number): void {
    this.parts(from, to, to, (first, last, x) => this.context.clearRect(x, 0, last - first + 1, this.height));
  }

  private drawColumns(history: History, from: number, to: number, head: number): void {
    this.parts(from, to, head, (first, last, x) => {
      this.columnsDrawn += last - first + 1;
      const context = this.context;
      context.save();
      context.beginPath();
      context.rect(x, 0, last - first + 1, this.height);
      context.clip();
      context.clearRect(x, 0, last - first + 1, this.height);
      context.beginPath();
      this.trace(history, first, last, head, x - first);
      context.lineWidth = THICKNESS * this.ratio;
      context.lineJoin = 'round';
      context.lineCap = 'round';
      context.strokeStyle = this.drawnState === 'stopped' ? this.colors.stopped : this.colors.trace;
      context.stroke();
      this.dashes(history, first, last, x - first);
      context.restore();
    });
  }

  /** Adds the line through the samples of the columns `from` to `to` to the path. The trace ends at the column `head`. */
  private trace(history: History, from: number, to: number, head: number, dx: number): void {
    const context = this.context;
    const perSecond = this.columnsPerSecond();
    const limitUs = this.columnUs(head + 1);
    const first = history.numberAt(this.columnUs(from - REACH)) - 1;
    const last = Math.min(history.numberAt(this.columnUs(to + REACH + 1)) + 1, history.numberAt(limitUs));
    const middle = this.height / 2;
    const y = (value: number): number => middle - (value - this.centre) * this.pixelsPerUnit;
    const merges = 1e6 / history.cellUs / perSecond > MAX_CELLS_PER_COLUMN;
    let isLine = false;
    let lastY = 0;
    const point = (atX: number, atY: number): void => {
      if (isLine) context.lineTo(atX, atY);
      else {
        context.moveTo(atX, atY);
        // A sample between two gaps is a point.
        context.lineTo(atX, atY);
      }
      isLine = true;
      lastY = atY;
    };
    const extremes = (atX: number, low: number, high: number): void => {
      const yLow = y(low);
      const yHigh = y(high);
      if (yLow === yHigh) point(atX, yLow);
      // The extreme closer to the end of the previous cell comes first.
      else if (!isLine || Math.abs(lastY - yLow) <= Math.abs(lastY - yHigh)) {
        point(atX, yLow);
        point(atX, yHigh);
      } else {
        point(atX, yHigh);
        point(atX, yLow);
      }
    };
    let column = NaN;
    let low = NaN;
    let high = NaN;
    const flush = (): void => {
      if (!Number.isNaN(low)) extremes(column + 0.5 + dx, low, high);
      low = high = NaN;
    };
    for (let number = first; number <= last; number++) {
      const cellLow = history.lowOf(number);
      const timeUs = history.timeUs(number);
      if (Number.isNaN(cellLow) || history.isOff(number) || timeUs >= limitUs) {
        flush();
        isLine = false;
        continue;
      }
      const cellHigh = history.highOf(number);
      const atX = timeUs * 1e-6 * perSecond;
      if (!merges) {
        extremes(atX + dx, cellLow, cellHigh);
        continue;
      }
      const at = Math.floor(atX);
      if (at !== column) {
        flush();
        column = at;
      }
      low = Number.isNaN(low) ? cellLow : Math.min(low, cellLow);
      high = Number.isNaN(high) ? cellHigh : Math.max(high, cellHigh);
    }
    flush();
  }

  /** Draws the dashes of a disconnected sensor. */
  private dashes(history: History, from: number, to: number, dx: number): void {
    const dash = 6 * this.ratio;
    const thick = Math.max(1, Math.round(this.ratio));
    this.context.fillStyle = this.colors.mark;
    for (let column = from; column <= to; column++) {
      if (Math.floor(column / dash) % 2 !== 0) continue;
      if (!history.isOff(history.numberAt(this.columnUs(column + 0.5)))) continue;
      this.context.fillRect(column + dx, Math.round(this.height / 2) - thick, 1, 2 * thick);
    }
  }

  /** Draws the edge of a trace that has stopped, after its last sample, and since when it has stopped. */
  private drawEnd(history: History, head: number): void {
    const context = this.context;
    const endUs = history.endUs() ?? 0;
    const end = this.column(endUs);
    if (end >= this.oldest(head) && end <= head + this.eraseBar()) {
      const wide = Math.round(2 * this.ratio);
      context.fillStyle = this.colors.mark;
      this.parts(end + 1, end + wide, head + this.eraseBar(), (first, last, x) =>
        context.fillRect(x, 0, last - first + 1, this.height),
      );
    }
    const text = (this.options.stoppedText ?? ((us) => `no signal since ${timeOfDay(us)}`))(endUs);
    if (text === '') return;
    let size = Math.min(13 * this.ratio, this.height / 2);
    const font = (pixels: number): string => `600 ${pixels}px system-ui, sans-serif`;
    context.font = font(size);
    const pad = 6 * this.ratio;
    const room = this.width - 2 * pad - 4 * this.ratio;
    const measured = context.measureText(text).width;
    if (measured > room) {
      size = Math.max(8 * this.ratio, (size * room) / measured);
      context.font = font(size);
    }
    const wide = Math.min(context.measureText(text).width, room) + 2 * pad;
    const tall = size * 1.6;
    const left = (this.width - wide) / 2;
    const top = (this.height - tall) / 2;
    context.fillStyle = this.colors.mark;
    context.beginPath();
    context.roundRect(left, top, wide, tall, 4 * this.ratio);
    context.fill();
    context.fillStyle = this.colors.markText;
    context.textAlign = 'center';
    context.textBaseline = 'middle';
    context.fillText(text, this.width / 2, this.height / 2 + size * 0.05, room);
  }

  /** Adapts the vertical scale to the visible range. A scale that fits is kept, so that the trace does not jump. */
  private fit(history: History, headUs: number, now: number): void {
    const isNew = this.fittedUs === -Infinity;
    this.fittedUs = now;
    const range = history.range(headUs - this.visibleSeconds() * 1e6, headUs);
    if (range === undefined) return;
    const { low, high } = range;
    const top = this.centre + this.height / 2 / this.pixelsPerUnit;
    const bottom = this.centre - this.height / 2 / this.pixelsPerUnit;
    const perMv = this.options.scale;
    let pixelsPerUnit: number;
    if (typeof perMv === 'number') {
      const pixelsPerMm = PIXELS_PER_MM * this.ratio;
      const needed = (gain: number): number => ((high - low) / perMv) * gain * pixelsPerMm;
      const known = this.gainMmPerMv;
      const keeps = !isNew && known !== undefined && needed(known) <= this.height && needed(known * 2) > this.height * 0.6;
      const best = GAINS.find((gain) => needed(gain) <= this.height * 0.9) ?? GAINS[GAINS.length - 1]!;
      const gain = keeps ? known : best;
      pixelsPerUnit = (gain * pixelsPerMm) / perMv;
      const isInside = !isNew && gain === known && low >= bottom && high <= top;
      if (isInside) return;
      this.gainMmPerMv = gain;
    } else {
      this.gainMmPerMv = undefined;
      const span = Math.max(high - low, this.options.minSpan ?? 0, 1e-9);
      if (!isNew && low >= bottom && high <= top && span >= (top - bottom) * 0.5) return;
      pixelsPerUnit = (this.height * FILL) / span;
    }
    const centre = (low + high) / 2;
    const share = this.pixelsPerUnit / pixelsPerUnit;
    const isSimilar = share > 0.97 && share < 1.03 && Math.abs(this.centre - centre) * pixelsPerUnit < 1;
    if (isSimilar) return;
    this.centre = centre;
    this.pixelsPerUnit = pixelsPerUnit;
    this.drawn = undefined;
  }
}

// The visible part of an ECG strip and its scale: conversions between seconds, millivolts and pixels, zoom and pan.
//
// A millimetre of paper is PIXELS_PER_MM pixels, independent of the zoom of the page.

import { PIXELS_PER_MM } from './sweep';

/** The maximum paper speed in mm/s. */
const MAX_SPEED = 400;
/** The minimum and maximum gain in mm/mV. */
const MIN_GAIN = 0.5;
const MAX_GAIN = 80;

/** Samples of a lead without a gap. */
export interface Segment {
  /** Seconds from the start of the strip to the first sample. */
  startS: number;
  /** Voltages in millivolts. */
  mv: Float32Array;
}

/** A lead of an ECG. */
export interface Strip {
  rateHz: number;
  durationS: number;
  /** In order of time, without overlaps. */
  segments: Segment[];
}

/** Width and height in pixels. */
export interface Size {
  width: number;
  height: number;
}

/** A label of the time axis. */
export interface Tick {
  x: number;
  text: string;
}

/** Two points of a measurement. */
export interface Caliper {
  from: { s: number; mv: number };
  to: { s: number; mv: number };
}

/** The difference between the two points of a caliper. */
export interface Reading {
  ms: number;
  mv: number;
  /** The rate that corresponds to the time as an RR interval. `undefined` if it is not one. */
  bpm: number | undefined;
}

export function reading(caliper: Caliper): Reading {
  const seconds = Math.abs(caliper.to.s - caliper.from.s);
  const isRr = seconds >= 0.15 && seconds <= 6;
  return { ms: seconds * 1000, mv: caliper.to.mv - caliper.from.mv, bpm: isRr ? 60 / seconds : undefined };
}

/** The range of a strip without 0.5 % of its samples at either end, in millivolts. */
export function typicalRange(strip: Strip): { low: number; high: number } {
  const count = strip.segments.reduce((sum, segment) => sum + segment.mv.length, 0);
  const step = Math.floor(count / 50_000) + 1;
  const subset: number[] = [];
  for (const segment of strip.segments) {
    for (let at = 0; at < segment.mv.length; at += step) subset.push(segment.mv[at]!);
  }
  if (subset.length === 0) return { low: -0.5, high: 0.5 };
  subset.sort((one, other) => one - other);
  const cut = Math.floor(subset.length / 200);
  return { low: subset[cut]!, high: subset[subset.length - 1 - cut]! };
}

/** Samples per block of which the extremes are known, so that an hour is drawn as fast as a second. */
const BLOCK = 256;

const envelopes = new WeakMap<Float32Array, { low: Float32Array; high: Float32Array }>();

/** The extremes of each whole block. The samples must not change afterwards. */
function envelopeOf(mv: Float32Array): { low: Float32Array; high: Float32Array } {
  let known = envelopes.get(mv);
  if (known === undefined) {
    const count = Math.floor(mv.length / BLOCK);
    known = { low: new Float32Array(count).fill(Infinity), high: new Float32Array(count).fill(-Infinity) };
    for (let at = 0; at < count * BLOCK; at++) {
      const block = Math.floor(at / BLOCK);
      if (mv[at]! < known.low[block]!) known.low[block] = mv[at]!;
      if (mv[at]! > known.high[block]!) known.high[block] = mv[at]!;
    }
    envelopes.set(mv, known);
  }
  return known;
}

/** The smallest and the largest sample of `mv[from..to]`. `undefined` for an empty range. */
export function extremes(mv: Float32Array, from: number, to: number): { low: number; high: number } | undefined {
  let low = Infinity;
  let high = -Infinity;
  const end = Math.min(to, mv.length);
  const scan = (first: number, last: number): void => {
    for (let at = first; at < last; at++) {
      const value = mv[at]!;
      if (value < low) low = value;
      if (value > high) high = value;
    }
  };
  const start = Math.max(0, from);
  const [firstBlock, lastBlock] = [Math.ceil(start / BLOCK), Math.floor(end / BLOCK)];
  if (firstBlock >= lastBlock) {
    scan(start, end);
  } else {
    const blocks = envelopeOf(mv);
    scan(start, firstBlock * BLOCK);
    for (let block = firstBlock; block < lastBlock; block++) {
      low = Math.min(low, blocks.low[block]!);
      high = Math.max(high, blocks.high[block]!);
    }
    scan(lastBlock * BLOCK, end);
  }
  return low <= high ? { low, high } : undefined;
}

export class View {
  startS = 0;
  centreMv: number;
  /** Paper speed in mm/s. */
  speed = 25;
  /** Gain in mm/mV. */
  gain: number;
  size: Size;
  private readonly range: { low: number; high: number };

  /** The start of a strip at 25 mm/s and 10 mm/mV. A trace that does not fit has a smaller gain. */
  constructor(
    readonly strip: Strip,
    size: Size,
  ) {
    this.size = size;
    this.range = typicalRange(strip);
    this.centreMv = (this.range.low + this.range.high) / 2;
    this.gain = this.fittingGain();
  }

  private fittingGain(): number {
    const needed = (this.range.high - this.range.low) * 1.15;
    return [10, 5, 2.5, 1.25].find((gain) => needed * gain <= this.size.height / PIXELS_PER_MM) ?? 1;
  }

  get pixelsPerS(): number {
    return this.speed * PIXELS_PER_MM;
  }

  get pixelsPerMv(): number {
    return this.gain * PIXELS_PER_MM;
  }

  /** Seconds from the left to the right edge. */
  get shownS(): number {
    return this.size.width / this.pixelsPerS;
  }

  x(seconds: number): number {
    return (seconds - this.startS) * this.pixelsPerS;
  }

  y(mv: number): number {
    return this.size.height / 2 - (mv - this.centreMv) * this.pixelsPerMv;
  }

  seconds(x: number): number {
    return this.startS + x / this.pixelsPerS;
  }

  mv(y: number): number {
    return this.centreMv + (this.size.height / 2 - y) / this.pixelsPerMv;
  }

  /** Takes another size. */
  resize(size: Size): void {
    this.size = size;
    this.keepInside();
  }

  /** 25 mm/s and 10 mm/mV, or the largest gain that fits. */
  standard(): void {
    this.speed = 25;
    this.gain = this.fittingGain();
    this.centreMv = (this.range.low + this.range.high) / 2;
    this.keepInside();
  }

  /** Shows the whole strip. */
  fit(): void {
    this.startS = 0;
    this.speed = Math.min(this.size.width / PIXELS_PER_MM / Math.max(0.1, this.strip.durationS), MAX_SPEED);
    this.keepInside();
  }

  /** Multiplies the paper speed. The time at the position `x` stays in place. */
  zoom(factor: number, x = this.size.width / 2): void {
    const under = this.seconds(x);
    const slowest = Math.min(this.size.width / PIXELS_PER_MM / Math.max(0.1, this.strip.durationS), 25);
    this.speed = Math.min(MAX_SPEED, Math.max(slowest, this.speed * factor));
    this.startS += under - this.seconds(x);
    this.keepInside();
  }

  /** Multiplies the gain. */
  amplify(factor: number): void {
    this.gain = Math.min(MAX_GAIN, Math.max(MIN_GAIN, this.gain * factor));
  }

  /** Moves the visible part by pixels. Returns whether it has moved in time. */
  pan(dx: number, dy = 0): boolean {
    const before = this.startS;
    this.startS -= dx / this.pixelsPerS;
    const centre = this.centreMv + dy / this.pixelsPerMv;
    this.centreMv = Math.min(this.range.high + 1, Math.max(this.range.low - 1, centre));
    this.keepInside();
    return this.startS !== before;
  }

  /** Moves the visible part so that a time is in its middle. */
  show(seconds: number): void {
    this.startS = seconds - this.shownS / 2;
    this.keepInside();
  }

  private keepInside(): void {
    const last = Math.max(0, this.strip.durationS - this.shownS);
    this.startS = Math.min(last, Math.max(0, this.startS));
  }

  /** The labels of the time axis, at lines of the grid. */
  ticks(room = 80): Tick[] {
    const step = this.stepS(room);
    const ticks: Tick[] = [];
    for (let index = Math.max(0, Math.ceil(this.seconds(0) / step)); ; index++) {
      const x = this.x(index * step);
      if (x > this.size.width || index * step > this.strip.durationS + 1e-6) return ticks;
      ticks.push({ x, text: axisTime(index * step, step) });
    }
  }

  /** The shortest round time that is at least `pixels` wide, in seconds. */
  stepS(pixels: number): number {
    const steps = [0.2, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14_400, 21_600];
    return steps.find((step) => step * this.pixelsPerS >= pixels) ?? 43_200;
  }

  /** The visible part of a segment: all samples, or the extremes of each pixel if there are more than two samples per pixel. */
  line(segment: Segment, pixelsPerCss = 1): { x: number; y: number }[] {
    const rate = this.strip.rateHz;
    const index = (x: number): number => (this.seconds(x) - segment.startS) * rate;
    const first = Math.max(0, Math.floor(index(-2)));
    const last = Math.min(segment.mv.length, Math.ceil(index(this.size.width + 2)) + 1);
    const points: { x: number; y: number }[] = [];
    const perColumn = rate / this.pixelsPerS / pixelsPerCss;
    if (perColumn <= 2) {
      for (let at = first; at < last; at++) points.push({ x: this.x(segment.startS + at / rate), y: this.y(segment.mv[at]!) });
      return points;
    }
    let from = first;
    let column = Math.floor(this.x(segment.startS + first / rate) * pixelsPerCss);
    while (from < last) {
      column += 1;
      const to = Math.min(last, Math.max(from, Math.ceil(index(column / pixelsPerCss))));
      const found = extremes(segment.mv, from, to);
      if (found !== undefined) {
        const x = (column - 0.5) / pixelsPerCss;
        const entering = segment.mv[from]!;
        const leaving = segment.mv[to - 1]!;
        const rising = entering <= leaving;
        points.push({ x, y: this.y(entering) });
        points.push({ x, y: this.y(rising ? found.low : found.high) });
        points.push({ x, y: this.y(rising ? found.high : found.low) });
        points.push({ x, y: this.y(leaving) });
      }
      from = Math.max(to, from);
      if (column / pixelsPerCss > this.size.width + 4) break;
    }
    return points;
  }
}

/** A time from the start of the strip. Its precision depends on the distance of the labels in seconds. */
export function axisTime(seconds: number, step: number): string {
  if (step < 1) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  const two = (part: number): string => String(part).padStart(2, '0');
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)}:${two(whole % 60)}`;
  return `${Math.floor(whole / 3600)}:${two(Math.floor(whole / 60) % 60)}:${two(whole % 60)}`;
}

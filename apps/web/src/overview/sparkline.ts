// The sparkline of a tile without a live signal: the end of the latest ECG. The rules are those of the monitor app
// (apps/ui/src/trace/sparkline.rs).

import { resolved } from '../canvas/colors';
import { getJson } from '../api/client';
import type { EcgSamples } from '../pages/patient/data.svelte';

/** Seconds that are shown. */
const SECONDS = 4;
const MAX_COLUMNS = 320;
/** The smallest range in microvolts, so that noise does not fill the tile. */
const MIN_SPAN = 800;
/** ECGs that are loaded at the same time. */
const MAX_LOADS = 2;
/** Sparklines that are kept. */
const MAX_KEPT = 500;

/** Smallest and largest value of each of many equal intervals, alternating, in microvolts. */
export type Columns = Float32Array;

/** Takes the last seconds of the longest segment. `undefined` if there are no samples. */
export function columnsOf(samples: EcgSamples): Columns | undefined {
  const [longest] = [...samples.segments].sort((one, other) => other.microvolts.length - one.microvolts.length);
  const wanted = Math.max(2, Math.floor(SECONDS * samples.sample_rate_hz));
  const values = longest?.microvolts.slice(-wanted) ?? [];
  if (values.length === 0) return undefined;
  const count = Math.min(MAX_COLUMNS, values.length);
  const columns = new Float32Array(count * 2);
  for (let index = 0; index < count; index += 1) {
    const from = Math.floor((index * values.length) / count);
    const to = Math.floor(((index + 1) * values.length) / count);
    // With the first sample of the next column, so that the columns connect.
    const part = values.slice(from, to + 1);
    columns[2 * index] = Math.min(...part);
    columns[2 * index + 1] = Math.max(...part);
  }
  return columns;
}

const kept = new Map<string, Columns | undefined>();
const waiting: (() => void)[] = [];
let loads = 0;

/** Loads the sparkline of an ECG. `undefined` if it has no readable signal. */
export async function loadSparkline(ecg: string, signal: AbortSignal): Promise<Columns | undefined> {
  if (kept.has(ecg)) return kept.get(ecg);
  if (loads >= MAX_LOADS) await new Promise<void>((resolve) => waiting.push(resolve));
  loads += 1;
  try {
    if (signal.aborted) return undefined;
    const columns = columnsOf(await getJson<EcgSamples>(`/api/v1/ecgs/${ecg}/samples`, { signal }));
    kept.set(ecg, columns);
    const [oldest] = kept.keys();
    if (kept.size > MAX_KEPT && oldest !== undefined) kept.delete(oldest);
    return columns;
  } finally {
    loads -= 1;
    waiting.shift()?.();
  }
}

/** Draws a sparkline over the whole canvas. */
export function drawSparkline(canvas: HTMLCanvasElement, columns: Columns | undefined): void {
  const ratio = window.devicePixelRatio || 1;
  const [width, height] = [canvas.clientWidth, canvas.clientHeight].map((size) => Math.max(1, Math.round(size * ratio)));
  const context = canvas.getContext('2d');
  if (context === null || width === undefined || height === undefined) return;
  [canvas.width, canvas.height] = [width, height];
  if (columns === undefined) return;
  const [low, high] = [Math.min(...columns), Math.max(...columns)];
  const thickness = (1.5 * ratio * parseFloat(getComputedStyle(document.documentElement).fontSize)) / 16;
  const scale = (height - 2 * thickness) / Math.max(high - low, MIN_SPAN);
  const y = (value: number) => height / 2 - (value - (low + high) / 2) * scale;
  context.beginPath();
  let last = (low + high) / 2;
  const count = columns.length / 2;
  for (let index = 0; index < count; index += 1) {
    const pair = [columns[2 * index] ?? 0, columns[2 * index + 1] ?? 0];
    // The extreme closer to the end of the previous column comes first.
    pair.sort((one, other) => Math.abs(one - last) - Math.abs(other - last));
    for (const value of pair) context.lineTo(((index + 0.5) * width) / count, y(value));
    last = pair[1] ?? last;
  }
  context.lineWidth = thickness;
  context.lineJoin = 'round';
  context.strokeStyle = resolved(canvas, '--stopped');
  context.stroke();
}

import { afterEach, describe, expect, it, vi } from 'vitest';
import { PagedList, sceneOf } from '../src/pages/patient/data.svelte';

interface Entry {
  id: string;
  at: string;
}

/** An entry of the second `n`. */
const entry = (n: number): Entry => ({ id: String(n), at: new Date(n * 1000).toISOString() });

/** Answers requests like the gateway: `store` is newest first, pages have two entries. */
function serve(store: Entry[]): { requests: string[] } {
  const requests: string[] = [];
  vi.stubGlobal('fetch', async (path: string) => {
    requests.push(path);
    const after = new URL(path, 'http://gateway').searchParams.get('after');
    const start = after === null ? 0 : store.findIndex((one) => one.id === after) + 1;
    const items = store.slice(start, start + 2);
    const next = start + 2 < store.length ? items.at(-1)?.id : undefined;
    return Response.json(next === undefined ? { items } : { items, next });
  });
  return { requests };
}

const ids = (list: PagedList<Entry>): string[] => list.items.map((one) => one.id);

afterEach(() => vi.unstubAllGlobals());

describe('list of records', () => {
  it('is loaded page by page until it is complete', async () => {
    serve([5, 4, 3, 2, 1].map(entry));
    const list = new PagedList<Entry>('/list', 2);
    await list.refresh();
    expect([ids(list), list.isComplete]).toEqual([['5', '4'], false]);
    await list.more();
    await list.more();
    expect([ids(list), list.isComplete]).toEqual([['5', '4', '3', '2', '1'], true]);
  });

  it('keeps loaded entries when a newer one arrives, and continues after the oldest', async () => {
    const store = [4, 3, 2, 1].map(entry);
    serve(store);
    const list = new PagedList<Entry>('/list', 2);
    await list.refresh();
    store.unshift(entry(5));
    await list.refresh();
    expect(ids(list)).toEqual(['5', '4', '3']);
    await list.more();
    expect([ids(list), list.isComplete]).toEqual([['5', '4', '3', '2', '1'], true]);
  });

  it('starts again if more than a page was added', async () => {
    const store = [2, 1].map(entry);
    serve(store);
    const list = new PagedList<Entry>('/list', 2);
    await list.refresh();
    store.unshift(...[6, 5, 4, 3].map(entry));
    await list.refresh();
    expect([ids(list), list.isComplete]).toEqual([['6', '5'], false]);
    await list.more();
    await list.more();
    expect(ids(list)).toEqual(['6', '5', '4', '3', '2', '1']);
  });

  it('keeps its entries and reports why it cannot be loaded', async () => {
    serve([1].map(entry));
    const list = new PagedList<Entry>('/list', 2);
    await list.refresh();
    vi.stubGlobal('fetch', async () => Promise.reject(new TypeError('no network')));
    await list.refresh();
    expect(ids(list)).toEqual(['1']);
    expect(list.error).toBeInstanceOf(Error);
  });
});

describe('scene of an ECG', () => {
  const texts = { gap: 'gap', quality: (quality: string) => quality };

  it('marks gaps between segments and parts that are not good, and labels ectopic beats', () => {
    const segment = (start_s: number) => ({ start_s, microvolts: new Array<number>(1000).fill(500) });
    const scene = sceneOf(
      { lead: 'II', sample_rate_hz: 100, duration_s: 25, segments: [segment(0), segment(15)] },
      {
        beats: [
          { time_s: 1, confidence: 0.9, type: 'normal' },
          { time_s: 2, confidence: 0.4, type: 'ventricular', qrs: { on_s: 1.9, peak_s: 2, end_s: 2.1, confidence: 0.8 } },
        ],
        quality_segments: [
          { start_s: 0, end_s: 10, quality: 'good' },
          { start_s: 15, end_s: 20, quality: 'poor' },
          { start_s: 20, end_s: 25, quality: 'poor' },
        ],
        trend: [],
        gaps: [],
      },
      texts,
    );
    expect(scene.strip.segments[1]?.mv[0]).toBeCloseTo(0.5, 6);
    expect(scene.marks).toEqual([
      { fromS: 10, toS: 15, kind: 'gap', text: 'gap' },
      { fromS: 15, toS: 25, kind: 'poor', text: 'poor' },
    ]);
    expect(scene.beats.map((beat) => [beat.label, beat.qrs?.onS])).toEqual([
      ['', undefined],
      ['V', 1.9],
    ]);
  });
});

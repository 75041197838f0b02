import { describe, expect, it } from 'vitest';
import { extremes, reading, View, type Strip } from '../src/canvas/view';

const SIZE = { width: 600, height: 240 };

function strip(mv: number[], rateHz = 250): Strip {
  return { rateHz, durationS: mv.length / rateHz, segments: [{ startS: 0, mv: Float32Array.from(mv) }] };
}

/** Twenty seconds of a wave of 1 mV. */
const wave = (): Strip => strip(Array.from({ length: 5000 }, (_, at) => Math.sin(at / 40) / 2));

describe('scale of an ECG', () => {
  it('is 25 mm/s and 10 mm/mV, with 4 pixels per millimetre', () => {
    const view = new View(wave(), SIZE);
    expect([view.speed, view.gain]).toEqual([25, 10]);
    expect(view.seconds(100) - view.seconds(0)).toBeCloseTo(1, 9);
    expect(view.mv(0) - view.mv(40)).toBeCloseTo(1, 9);
    expect(view.x(view.seconds(123))).toBeCloseTo(123, 9);
    expect(view.y(view.mv(77))).toBeCloseTo(77, 9);
  });

  it('is smaller for a trace that does not fit', () => {
    const view = new View(strip(Array.from({ length: 2500 }, (_, at) => 8 * Math.sin(at / 40))), SIZE);
    expect(view.gain).toBe(2.5);
  });

  it('keeps the time under the pointer while zooming, and stays within the strip', () => {
    const view = new View(wave(), SIZE);
    view.pan(-900);
    const under = view.seconds(200);
    view.zoom(2, 200);
    expect(view.seconds(200)).toBeCloseTo(under, 9);
    for (let count = 0; count < 50; count++) view.zoom(0.5, 0);
    expect(view.startS).toBe(0);
    expect(view.seconds(600)).toBeLessThanOrEqual(20.001);
    expect(view.pan(1e6)).toBe(false);
    view.zoom(8, 0);
    expect(view.pan(-1e6)).toBe(true);
    expect(view.seconds(600)).toBeCloseTo(20, 6);
    view.show(3);
    expect(view.seconds(300)).toBeCloseTo(3, 6);
  });

  it('has labels at round times in ascending order', () => {
    const view = new View(strip(new Array<number>(360 * 7200).fill(0), 360), SIZE);
    expect(view.ticks().map((tick) => tick.text)).toEqual(['0 s', '1 s', '2 s', '3 s', '4 s', '5 s', '6 s']);
    view.fit();
    const texts = view.ticks().map((tick) => tick.text);
    expect(texts.slice(0, 3)).toEqual(['0 s', '20:00', '40:00']);
    expect(texts).toContain('1:00:00');
  });
});

describe('line of an ECG', () => {
  it('shows a spike of one sample at every zoom', () => {
    const mv = new Array<number>(3_600_000).fill(0);
    mv[1_234_567] = 2;
    const view = new View(strip(mv, 1000), SIZE);
    view.fit();
    view.centreMv = 0;
    view.gain = 10;
    const points = view.line(view.strip.segments[0]!);
    const highest = points.reduce((one, other) => (other.y < one.y ? other : one));
    expect(highest.y).toBeCloseTo(view.y(2), 3);
    expect(Math.abs(highest.x - view.x(1234.567))).toBeLessThan(1);
    expect(points.length).toBeLessThan(4 * 610);
  });

  it('has every sample if there is room, at its time', () => {
    const view = new View(wave(), SIZE);
    const points = view.line(view.strip.segments[0]!, 2);
    expect(points[100]!.x).toBeCloseTo(view.x(100 / 250), 6);
    expect(points[100]!.y).toBeCloseTo(view.y(view.strip.segments[0]!.mv[100]!), 6);
  });

  it('does not bridge a gap between segments', () => {
    const segment = (startS: number) => ({ startS, mv: new Float32Array(500) });
    const gapped: Strip = { rateHz: 250, durationS: 6, segments: [segment(0), segment(4)] };
    const view = new View(gapped, SIZE);
    const [one, other] = gapped.segments.map((part) => view.line(part));
    expect(Math.max(...one!.map((point) => point.x))).toBeLessThanOrEqual(200);
    expect(Math.min(...other!.map((point) => point.x))).toBeGreaterThanOrEqual(400);
  });
});

describe('extremes', () => {
  it('of a range are those of its samples', () => {
    const mv = Float32Array.from({ length: 5000 }, (_, at) => (at * 7919) % 1009);
    for (const [from, to] of [[0, 5000], [0, 1], [255, 257], [256, 512], [300, 4000], [4990, 9999], [17, 290]] as const) {
      const part = mv.slice(from, to);
      expect(extremes(mv, from, to)).toEqual({ low: Math.min(...part), high: Math.max(...part) });
    }
    expect(extremes(mv, 5000, 6000)).toBeUndefined();
    expect(extremes(mv, 9, 9)).toBeUndefined();
  });
});

describe('calipers', () => {
  it('measure time, voltage and rate', () => {
    const from = { s: 1, mv: -0.1 };
    const to = { s: 1.8, mv: 1.1 };
    const measured = reading({ from, to });
    expect([measured.ms, measured.mv, measured.bpm].map((value) => Math.round(value! * 100) / 100)).toEqual([800, 1.2, 75]);
    const backwards = reading({ from: to, to: from });
    expect([backwards.ms, backwards.mv]).toEqual([measured.ms, -measured.mv]);
    expect(reading({ from, to: { s: 1.04, mv: 0 } }).bpm).toBeUndefined();
  });
});

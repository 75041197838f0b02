import { describe, expect, it } from 'vitest';
import { BURSTS, render, type AlarmPriority } from '../src/alarm/bursts';

const RATE_HZ = 48_000;
const PRIORITIES: AlarmPriority[] = ['high', 'medium', 'low'];

/** Start and end of each pulse in seconds, where its envelope is above 90 % of the maximum. */
function pulses(samples: Float32Array): { start: number; end: number }[] {
  const window = RATE_HZ / 400;
  const peaks: number[] = [];
  for (let at = 0; at < samples.length; at += window) peaks.push(Math.max(...samples.subarray(at, at + window).map(Math.abs)));
  const top = Math.max(...peaks) * 0.9;
  const found: { start: number; end: number }[] = [];
  peaks.forEach((peak, index) => {
    const [start, end] = [(index * window) / RATE_HZ, ((index + 1) * window) / RATE_HZ];
    if (peak < top) return;
    const last = found.at(-1);
    if (last !== undefined && start - last.end < 0.02) last.end = end;
    else found.push({ start, end });
  });
  return found;
}

/** Amplitude at a frequency, by the Goertzel algorithm. */
function amplitude(samples: Float32Array, hz: number): number {
  let [re, im] = [0, 0];
  samples.forEach((sample, index) => {
    re += sample * Math.cos((2 * Math.PI * hz * index) / RATE_HZ);
    im += sample * Math.sin((2 * Math.PI * hz * index) / RATE_HZ);
  });
  return (2 * Math.hypot(re, im)) / samples.length;
}

// Limits of IEC 60601-1-8:2006+A1:2012, tables 3 and 4.
describe('pulse bursts', () => {
  it('have the number of pulses of their priority', () => {
    expect(PRIORITIES.map((priority) => pulses(render(priority, RATE_HZ)).length)).toEqual([10, 3, 2]);
  });

  it.each(PRIORITIES)('have pulses of the length of priority %s', (priority) => {
    const [min, max] = priority === 'high' ? [0.075, 0.2] : [0.125, 0.25];
    for (const { start, end } of pulses(render(priority, RATE_HZ))) {
      expect(end - start).toBeGreaterThanOrEqual(min);
      expect(end - start).toBeLessThanOrEqual(max);
    }
  });

  it('have the spacing of high priority', () => {
    const found = pulses(render('high', RATE_HZ));
    const gaps = found.slice(1).map((pulse, index) => pulse.start - found[index]!.end);
    const length = found[0]!.end - found[0]!.start;
    for (const first of [0, 5]) {
      const x = gaps[first]!;
      expect(x).toBeGreaterThanOrEqual(0.05);
      expect(x).toBeLessThanOrEqual(0.125);
      expect(gaps[first + 1]).toBeCloseTo(x, 2);
      expect(gaps[first + 2]).toBeCloseTo(2 * x + length, 1);
      expect(gaps[first + 3]).toBeCloseTo(x, 2);
    }
    expect(gaps[4]).toBeGreaterThanOrEqual(0.35);
    expect(gaps[4]).toBeLessThanOrEqual(1.3);
    expect(BURSTS.high.pause).toBeGreaterThanOrEqual(2.5);
    expect(BURSTS.high.pause).toBeLessThanOrEqual(15);
  });

  it.each(['medium', 'low'] as const)('have the spacing of priority %s', (priority) => {
    const found = pulses(render(priority, RATE_HZ));
    found.slice(1).forEach((pulse, index) => {
      const gap = pulse.start - found[index]!.end;
      expect(gap).toBeGreaterThanOrEqual(0.125);
      expect(gap).toBeLessThanOrEqual(0.25);
    });
    expect(BURSTS[priority].pause).toBeGreaterThanOrEqual(priority === 'low' ? 15 : 2.5);
  });

  it.each(PRIORITIES)('have a fundamental of 150 to 1000 Hz and four harmonics within 15 dB, priority %s', (priority) => {
    const { frequency, pulse } = BURSTS[priority];
    expect(frequency).toBeGreaterThanOrEqual(150);
    expect(frequency).toBeLessThanOrEqual(1000);
    const samples = render(priority, RATE_HZ).subarray(0, pulse * RATE_HZ);
    const fundamental = amplitude(samples, frequency);
    for (const harmonic of [2, 3, 4, 5]) {
      expect(frequency * harmonic).toBeLessThanOrEqual(4000);
      const difference = 20 * Math.log10(amplitude(samples, frequency * harmonic) / fundamental);
      expect(Math.abs(difference)).toBeLessThan(15);
    }
  });

  it('do not clip and begin and end in silence', () => {
    for (const priority of PRIORITIES) {
      const samples = render(priority, RATE_HZ);
      expect(samples.reduce((most, sample) => Math.max(most, Math.abs(sample)), 0)).toBeLessThanOrEqual(1);
      expect(Math.abs(samples[0]!)).toBeLessThan(0.01);
      expect(Math.abs(samples.at(-1)!)).toBeLessThan(0.01);
    }
  });
});

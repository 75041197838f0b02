import { describe, expect, it } from 'vitest';
import { History } from '../src/canvas/history';

/** A time in microseconds since 1970. */
const START = 1_790_000_000_000_000;

function samples(history: History, from: number, count: number): number[] {
  return Array.from({ length: count }, (_, at) => history.lowOf(from + at));
}

function push(history: History, startUs: number, values: number[], leadOff = false): boolean {
  const array = Float32Array.from(values);
  return history.push(startUs, array, array, leadOff);
}

describe('history', () => {
  it('fills in late samples and ignores duplicates and old samples', () => {
    const history = new History(10_000, 10, false);
    const first = history.numberAt(START);
    push(history, START, [1, 2, 3, 4, 5, 6, 7, 8]);
    push(history, START + 160_000, [17, 18, 19, 20]);
    expect(samples(history, first + 6, 3)).toEqual([7, 8, NaN]);
    expect(history.takeChanged()).toEqual([first, first + 19]);
    push(history, START + 80_000, [9, 10, 11, 12, 13, 14, 15, 16]);
    expect(samples(history, first, 20)).toEqual(Array.from({ length: 20 }, (_, at) => at + 1));
    expect(history.takeChanged()).toEqual([first + 8, first + 15]);
    expect(push(history, START, [1, NaN, 3])).toBe(false);
    push(history, START - 60_000_000, new Array<number>(100).fill(7));
    expect(history.takeChanged()).toBeUndefined();
    expect(history.range(START, START + 1e6)).toEqual({ low: 1, high: 20 });
  });

  it('keeps its memory, and a jump leaves no old samples', () => {
    const history = new History(4_000, 4, false);
    const { bytes } = history;
    for (let second = 0; second < 100; second++) push(history, START + second * 1e6, new Array<number>(250).fill(9));
    push(history, START + 3.6e9, [1]);
    expect(history.bytes).toBe(bytes);
    const newest = history.numberAt(START + 3.6e9);
    expect(history.lowOf(newest)).toBe(1);
    for (let number = newest - 2000; number < newest; number++) expect(history.lowOf(number)).toBeNaN();
  });

  it('has no holes if times are rounded', () => {
    // 62.4725 Hz in frames of 12 and 13 samples, with times in whole milliseconds.
    const period = 1e6 / 62.4725;
    const history = new History(period, 60, false);
    let index = 0;
    for (let frame = 0; index < 3000; frame++) {
      const count = 12 + (frame % 2);
      push(history, Math.floor((START + index * period) / 1000) * 1000, new Array<number>(count).fill(1));
      index += count;
    }
    const end = history.numberAt(history.endUs()!);
    expect(samples(history, end - 2990, 2989).every((value) => value === 1)).toBe(true);
  });

  it('keeps a gap of the device as a gap', () => {
    const history = new History(4_000, 10, false);
    push(history, START, new Array<number>(50).fill(1));
    push(history, START + 600_000, new Array<number>(50).fill(2));
    const first = Math.round(START / 4_000);
    expect(samples(history, first + 50, 100).every(Number.isNaN)).toBe(true);
    expect(history.lowOf(first + 150)).toBe(2);
  });

  it('stores fast channels as extremes', () => {
    const history = new History(125, 2, false);
    expect(1e6 / history.cellUs).toBeLessThanOrEqual(1000);
    push(history, START, Array.from({ length: 800 }, (_, at) => (at === 403 ? 900 : at % 7)));
    expect(history.range(START, START + 100_000)).toEqual({ low: 0, high: 900 });
  });

  it('joins a column that is received again', () => {
    const history = new History(1e6 / 60, 5, true);
    const at = (number: number): number => (number * 1e6) / 60;
    history.push(at(1000), [1, 2], [3, 2], false);
    history.push(at(1001), [-4, NaN], [2, NaN], true);
    expect([history.lowOf(1001), history.highOf(1001)]).toEqual([-4, 2]);
    expect(history.isOff(1002)).toBe(true);
    expect(history.isLeadOff(at(1003.5))).toBe(true);
    expect(history.isLeadOff(at(1000.5))).toBe(false);
  });
});

import { describe, expect, it } from 'vitest';
import { MARGIN_US, MAX_SLEW, Playout, STOP_US } from '../src/canvas/playout';

const START = 1_790_000_000_000_000;
const FRAME = 200_000;
/** The refresh interval of a screen. */
const REFRESH = 16_667;

interface Shown {
  now: number;
  head: number;
  /** The end of the samples that have arrived. */
  end: number;
}

/** Runs a stream whose frames arrive with these delays. Returns what is shown at each refresh. */
function run(playout: Playout, from: number, delays: number[]): Shown[] {
  let last = 0;
  // A connection keeps the order of the frames.
  const arrivals = delays.map((delay, index) => {
    last = Math.max(last, from + (index + 1) * FRAME + delay);
    return { at: last, start: from + index * FRAME };
  });
  const shown: Shown[] = [];
  let end = 0;
  for (let now = from; now < from + delays.length * FRAME; now += REFRESH) {
    while (arrivals.length > 0 && arrivals[0]!.at <= now) {
      const { at, start } = arrivals.shift()!;
      playout.received(start, start + FRAME, at);
      end = start + FRAME;
    }
    const head = playout.advance(now);
    if (head !== undefined) shown.push({ now, head, end });
  }
  return shown;
}

const calm = (count: number): number[] => new Array<number>(count).fill(10_000);

describe('jitter buffer', () => {
  it('moves at the refresh rate although frames arrive every 200 ms', () => {
    const playout = new Playout();
    const shown = run(playout, START, calm(100));
    for (let at = 1; at < shown.length; at++) {
      expect(Math.abs(shown[at]!.head - shown[at - 1]!.head - REFRESH)).toBeLessThan(1);
      expect(shown[at]!.head).toBeLessThanOrEqual(shown[at]!.end);
    }
    expect(playout.delayUs).toBe(FRAME + 10_000 + MARGIN_US);
    expect(playout.lengthUs).toBe(FRAME + MARGIN_US);
  });

  it('grows with jitter and shrinks after it, without steps', () => {
    const playout = new Playout();
    run(playout, START, calm(100));
    let state = 7;
    const jitter = Array.from({ length: 150 }, () => {
      state = (state * 1_103_515_245 + 12_345) % 2_147_483_648;
      return 10_000 + (state % 250_000);
    });
    const at = START + 100 * FRAME;
    const shown = run(playout, at, jitter);
    expect(playout.lengthUs).toBeGreaterThan(FRAME + 200_000);
    for (let index = 1; index < shown.length; index++) {
      const step = (shown[index]!.head - shown[index - 1]!.head) / REFRESH;
      expect(step).toBeGreaterThan(1 - MAX_SLEW - 0.01);
      expect(step).toBeLessThan(1 + MAX_SLEW + 0.01);
    }
    const second = shown.slice(shown.length / 2);
    expect(second.filter(({ head, end }) => head > end).length).toBeLessThanOrEqual(shown.length / 100);
    run(playout, at + 150 * FRAME, calm(150));
    expect(playout.lengthUs).toBe(FRAME + MARGIN_US);
  });

  it('stops after the last sample, shows all of it, and continues with the next', () => {
    const playout = new Playout();
    run(playout, START, calm(20));
    const last = START + 20 * FRAME + 10_000;
    playout.received(START + 19 * FRAME, START + 20 * FRAME, last);
    expect(playout.isStopped(last + STOP_US - 1)).toBe(false);
    expect(playout.isStopped(last + STOP_US)).toBe(true);
    expect(playout.advance(last + STOP_US)).toBeGreaterThanOrEqual(START + 20 * FRAME);
    const held = playout.advance(last + STOP_US);
    expect(playout.advance(last + 60_000_000)).toBe(held);
    const resumed = last + 60_000_000;
    playout.received(resumed - FRAME - 10_000, resumed - 10_000, resumed);
    expect(playout.advance(resumed)).toBe(resumed - playout.delayUs);
  });

  it('does not grow with the frames that the gateway sends to a new subscriber', () => {
    const playout = new Playout();
    const now = START + 10 * FRAME;
    for (let frame = 0; frame < 10; frame++) playout.received(START + frame * FRAME, START + (frame + 1) * FRAME, now + frame);
    playout.advance(now + 10);
    run(playout, now, calm(20));
    expect(playout.delayUs).toBe(FRAME + 10_000 + MARGIN_US);
  });

  it('does not grow with frames that a device has kept during an outage', () => {
    const playout = new Playout();
    run(playout, START, calm(50));
    const { delayUs } = playout;
    const now = START + 50 * FRAME + 30_000_000;
    for (let frame = 50; frame < 150; frame++) playout.received(START + frame * FRAME, START + (frame + 1) * FRAME, now);
    playout.received(START, START + FRAME, now);
    expect(playout.delayUs).toBe(delayUs);
  });
});

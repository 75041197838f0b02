import { describe, expect, it } from 'vitest';
import { ServerClock } from '../src/api/clock';

const START = Date.parse('2026-03-14T15:00:00.000Z');
const at = (ms: number): string => new Date(START + ms).toISOString();

describe('the clock of the server', () => {
  it('is estimated from the least delayed message', () => {
    const clock = new ServerClock();
    clock.received(at(0), null, { monotonic: 1_000, wall: 0 });
    clock.received(at(500), null, { monotonic: 2_300, wall: 1_300 });
    expect(clock.nowMs({ monotonic: 3_000, wall: 2_000 })).toBe(START + 2_000);
  });

  it('counts the time in which the device was suspended', () => {
    const clock = new ServerClock();
    clock.received(at(0), null, { monotonic: 1_000, wall: 50_000 });
    expect(clock.nowMs({ monotonic: 2_000, wall: 50_000 + 3_600_000 })).toBe(START + 3_600_000);
  });

  it('does not follow the wall clock of the device', () => {
    const clock = new ServerClock();
    clock.received(at(0), null, { monotonic: 1_000, wall: START - 86_400_000 });
    const later = { monotonic: 3_000, wall: START - 86_400_000 + 2_000 };
    expect(clock.nowMs(later)).toBe(START + 2_000);
    expect(clock.aheadMs(later)).toBe(86_400_000);
  });

  it('is followed when it is set back, after ten seconds', () => {
    const clock = new ServerClock();
    clock.received(at(60_000), null, { monotonic: 0, wall: 0 });
    for (let second = 1; second <= 11; second += 1) {
      clock.received(at(second * 1_000), null, { monotonic: second * 1_000, wall: second * 1_000 });
    }
    expect(clock.nowMs({ monotonic: 11_000, wall: 11_000 })).toBe(START + 11_000);
  });

  it('reports its problem until it is correct again', () => {
    const clock = new ServerClock();
    clock.received(at(0), 'The clock is behind.');
    expect(clock.problem).toBe('The clock is behind.');
    clock.received(at(1));
    expect(clock.problem).toBeUndefined();
  });
});

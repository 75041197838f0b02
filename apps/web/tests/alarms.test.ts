import { beforeAll, expect, it, vi } from 'vitest';
import type { Alarm } from '../src/api/types.gen';

const alarm = (id: string, mrn: number): Alarm => ({ id, mrn, version: 1, state: 'raised', priority: 'high' }) as Alarm;

let module: typeof import('../src/alarm/alarms');
let feed: typeof import('../src/api/events').feed;
let answer: (alarms: Alarm[]) => void;

beforeAll(async () => {
  vi.stubGlobal('window', { addEventListener: () => undefined });
  vi.stubGlobal('document', { documentElement: {}, addEventListener: () => undefined });
  vi.stubGlobal('localStorage', { getItem: () => null });
  vi.stubGlobal('fetch', async () => {
    const items = await new Promise<Alarm[]>((resolve) => (answer = resolve));
    return new Response(JSON.stringify({ items }), { headers: { 'content-type': 'application/json' } });
  });
  module = await import('../src/alarm/alarms');
  ({ feed } = await import('../src/api/events'));
});

it('drops alarms that arrive after nobody follows them any more', async () => {
  const alarms = new module.Alarms();
  const stop = alarms.start();
  const loading = alarms.reload();
  stop();
  answer([alarm('a', 1)]);
  await loading;
  expect(alarms.open.size).toBe(0);
  expect(alarms.state).toEqual({ type: 'loading' });
});

it('forgets the alarms of a patient, and drops those that are on their way', async () => {
  const alarms = new module.Alarms();
  const stop = alarms.start();
  alarms.take(alarm('a', 1));
  alarms.take(alarm('b', 8));
  const loading = alarms.reload();
  feed.forget(8);
  alarms.forget(8);
  expect([...alarms.open.keys()]).toEqual(['a']);
  answer([alarm('a', 1), alarm('b', 8)]);
  await loading;
  expect([...alarms.open.keys()]).toEqual(['a']);
  stop();
});

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

it('states what raised an alarm in the language of the user', async () => {
  const { alarmDetail } = await import('../src/alarm/text');
  const { language } = await import('../src/i18n');
  vi.stubGlobal('localStorage', { getItem: () => null, setItem: () => undefined });
  const of = (rule: Alarm['rule'], text: string, worst?: number, limit?: number) =>
    alarmDetail({ ...alarm('a', 1), rule, text, worst: worst ?? null, limit: limit ?? null } as Alarm);
  const all = () => [
    of('heart_rate_high', 'HR 134 > 120', 134, 120),
    of('respiration_low', 'Resp 5 < 8', 5, 8),
    of('spo2_low', 'SpO₂ 84 < 90', 84, 90),
    of('pause', 'Pause 3.2 s', 3.2),
    of('lead_off', 'Lead off: II, V1'),
    of('notice', 'Emergency access by nora'),
    of('asystole', 'Asystole'),
  ];
  language.choose('en');
  expect(all()).toEqual(['HR 134 > 120', 'RR 5 < 8', 'SpO₂ 84 < 90', '3.2 s', 'II, V1', 'Emergency access by nora', undefined]);
  language.choose('de');
  expect(all()).toEqual(['HF 134 > 120', 'AF 5 < 8', 'SpO₂ 84 < 90', '3,2 s', 'II, V1', 'Notfallzugriff durch nora', undefined]);
  language.choose('en');
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

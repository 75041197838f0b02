import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { session } from '../src/api/session';
import type { Grant, Session } from '../src/api/types.gen';

const NOW = Date.parse('2026-03-14T15:00:00.000Z');
const grant: Grant = { mrn: 8, until: '2026-03-14T15:10:00.000Z' };
const nurse = (emergency: Grant[]): Session => ({
  name: 'nora',
  display_name: 'Nora Nurse',
  role: 'nurse',
  wards: ['67e55044-10b1-426f-9247-bb680e5fe0c8'],
  via: 'local',
  csrf: 'value',
  emergency,
  emergency_access_s: 600,
  login: { local: true, oidc: false, token: true },
});

/** What the gateway that answers knows. */
let known: Session;
/** Resolves before a session is returned. */
let gate: Promise<void>;

beforeEach(() => {
  vi.useFakeTimers({ now: NOW });
  gate = Promise.resolve();
  vi.stubGlobal('fetch', async (path: string) => {
    const answer = path.endsWith('/break-glass') ? grant : known;
    if (answer === known) await gate;
    return new Response(JSON.stringify(answer), { headers: { 'content-type': 'application/json' } });
  });
});

afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

it('uses the access that the server has granted, although another gateway does not know it yet, until it ends', async () => {
  known = nurse([]);
  await session.load();
  expect(session.accessSeconds).toBe(600);
  await session.access(8, 'Resuscitation');
  expect(session.emergency).toEqual([grant]);
  await session.load();
  expect(session.emergency).toEqual([grant]);
  // The gateways have learned it, and one of them ends it earlier.
  vi.advanceTimersByTime(60_000);
  await session.load();
  expect(session.emergency).toEqual([]);
  known = nurse([grant]);
  await session.load();
  expect(session.endAccess()).toEqual([]);
  let answer = (): void => undefined;
  gate = new Promise((resolve) => (answer = resolve));
  const late = session.load();
  vi.setSystemTime(Date.parse(grant.until));
  expect(session.endAccess()).toEqual([8]);
  expect(session.emergency).toEqual([]);
  answer();
  await late;
  expect(session.emergency).toEqual([]);
});

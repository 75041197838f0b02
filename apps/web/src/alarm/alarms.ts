// The open alarms of the server, kept current by its events, and their sound.
//
// Rules: after each new subscription, and whenever events may have been lost, all open alarms are loaded again. An alarm is
// replaced only by one of a higher version. While the connection is lost, the alarms that are known stay and keep sounding, and
// the loss itself sounds.

import { untrack } from 'svelte';
import { SvelteMap } from 'svelte/reactivity';
import { Cell } from '../api/cell';
import { ApiError, getJson, request } from '../api/client';
import { now } from '../api/clock';
import { feed } from '../api/events';
import { session } from '../api/session';
import type { Alarm, AlarmPage, AlarmPriority, LimitScope, StoredLimits } from '../api/types.gen';
import type { AlarmPriority as SoundingPriority } from './bursts';
import { alarmSound } from './sound';

/** Alarms of one page of the list. */
export const PAGE = 100;
/** Wait after a failure, in milliseconds. */
const RETRY_MS = 5_000;
const ORDER: AlarmPriority[] = ['technical', 'low', 'medium', 'high'];

/** `unsupported`: the server has no shared alarms. */
export type AlarmsState =
  | { type: 'loading' }
  | { type: 'ready' }
  | { type: 'unsupported' }
  | { type: 'failed'; error: unknown };

/** What the list shows. */
export interface AlarmFilter {
  state: 'open' | 'ended' | 'all';
  mrn?: number;
  priority?: AlarmPriority;
}

const time = (text: string | null | undefined): number => (text ? Date.parse(text) : NaN);

/** Whether the alarm sounds at this server time: nobody has acknowledged it or paused its sound. */
export function sounds(alarm: Alarm, nowMs: number): boolean {
  const isOpen = alarm.state === 'raised' || alarm.state === 'latched';
  return isOpen && !(time(alarm.audio_paused_until) > nowMs);
}

/** The order of the list: alarms that need an action first, then by priority, then the newest. */
export function compareAlarms(one: Alarm, other: Alarm): number {
  const needs = (alarm: Alarm) => (alarm.state === 'raised' || alarm.state === 'latched' ? 1 : 0);
  return (
    needs(other) - needs(one) ||
    ORDER.indexOf(other.priority) - ORDER.indexOf(one.priority) ||
    time(other.raised_at) - time(one.raised_at)
  );
}

export class Alarms {
  readonly open = new SvelteMap<string, Alarm>();
  readonly #state = new Cell<AlarmsState>({ type: 'loading' });
  readonly #limitsChanged = new Cell(0);
  /** Versions of alarms that have ended, so that a late event does not show them again. */
  readonly #ended = new Map<string, number>();
  /** Increases when nobody follows the alarms any more: late responses are dropped. */
  #generation = 0;
  #loading: Promise<void> | undefined;
  #loadAgain = false;
  #retry: ReturnType<typeof setTimeout> | undefined;

  get state(): AlarmsState {
    return this.#state.value;
  }

  /** Increases whenever limits have changed. */
  get limitsVersion(): number {
    return this.#limitsChanged.value;
  }

  /** The priority that sounds now, `undefined` for silence. */
  get sounding(): SoundingPriority | undefined {
    const at = now();
    const priorities = [...this.open.values()].filter((alarm) => sounds(alarm, at)).map((alarm) => alarm.priority);
    if (priorities.includes('high')) return 'high';
    if (priorities.includes('medium')) return 'medium';
    return priorities.length > 0 || feed.state.mode === 'offline' ? 'low' : undefined;
  }

  /** Follows the alarms. Returns a function that ends this. */
  start(): () => void {
    const stop = feed.followSystem((event) => {
      if (event === undefined) void this.reload();
      else if (event.event === 'alarm') this.take(event.alarm);
      else if (event.event === 'limits') this.#limitsChanged.value += 1;
    });
    if (feed.state.mode === 'live') void this.reload();
    return () => {
      stop();
      clearTimeout(this.#retry);
      this.#generation += 1;
      this.#loading = undefined;
      this.#loadAgain = false;
      this.open.clear();
      this.#ended.clear();
      this.#state.value = { type: 'loading' };
      alarmSound.setActive(undefined);
    };
  }

  /** Takes a state of an alarm, unless a newer one is known. */
  take(alarm: Alarm): void {
    if (feed.isForgotten(alarm.mrn)) return;
    const known = this.open.get(alarm.id)?.version ?? this.#ended.get(alarm.id) ?? -1;
    if (alarm.version <= known) return;
    if (alarm.state === 'ended') {
      this.open.delete(alarm.id);
      this.#ended.set(alarm.id, alarm.version);
      // Events arrive in order but for a few; the oldest entries are not needed any more.
      if (this.#ended.size > 1_000) this.#ended.delete(this.#ended.keys().next().value!);
    } else {
      this.open.set(alarm.id, alarm);
    }
  }

  /** Removes the alarms of a patient at once: the access to a patient of another ward has ended. */
  forget(mrn: number): void {
    for (const alarm of [...this.open.values()]) if (alarm.mrn === mrn) this.open.delete(alarm.id);
  }

  /** Loads all open alarms. */
  async reload(): Promise<void> {
    if (this.#loading !== undefined) {
      this.#loadAgain = true;
      return this.#loading;
    }
    const generation = this.#generation;
    const loading = this.#load().finally(() => {
      if (this.#loading === loading) this.#loading = undefined;
    });
    this.#loading = loading;
    await loading;
    if (generation === this.#generation && this.#loadAgain) {
      this.#loadAgain = false;
      await this.reload();
    }
  }

  async #load(): Promise<void> {
    clearTimeout(this.#retry);
    const generation = this.#generation;
    const before = new Map([...this.open].map(([id, alarm]) => [id, alarm.version]));
    try {
      const found: Alarm[] = [];
      let cursor: string | undefined;
      do {
        const page = await list({ state: 'open' }, cursor);
        if (generation !== this.#generation) return;
        found.push(...page.items);
        cursor = page.next ?? undefined;
      } while (cursor !== undefined);
      const ids = new Set(found.map((alarm) => alarm.id));
      // An alarm that an event has changed meanwhile is newer than the list.
      for (const [id, version] of before) if (!ids.has(id) && this.open.get(id)?.version === version) this.open.delete(id);
      found.forEach((alarm) => this.take(alarm));
      this.#state.value = { type: 'ready' };
    } catch (error) {
      if (generation !== this.#generation) return;
      const isUnknown = error instanceof ApiError && (error.status === 404 || error.status === 405);
      this.#state.value = isUnknown ? { type: 'unsupported' } : { type: 'failed', error };
      if (!isUnknown) this.#retry = setTimeout(() => void this.reload(), RETRY_MS);
    }
  }

  async act(alarm: Alarm, action: 'acknowledge' | 'audio-pause' | 'reset'): Promise<void> {
    const json = { version: alarm.version };
    const generation = this.#generation;
    const changed = await getJson<Alarm>(`/api/v1/alarms/${alarm.id}/${action}`, { method: 'POST', json });
    if (generation === this.#generation) this.take(changed);
  }
}

/** A page of the list. */
export function list(filter: AlarmFilter, cursor?: string, signal?: AbortSignal): Promise<AlarmPage> {
  const query = new URLSearchParams({ state: filter.state, limit: String(PAGE) });
  if (filter.mrn !== undefined) query.set('mrn', String(filter.mrn));
  if (filter.priority !== undefined) query.set('priority', filter.priority);
  if (cursor !== undefined) query.set('cursor', cursor);
  return getJson<AlarmPage>(`/api/v1/alarms?${query}`, signal === undefined ? {} : { signal });
}

function limitsPath(scope: LimitScope): string {
  if (scope.of === 'site') return '/api/v1/limits';
  return scope.of === 'ward' ? `/api/v1/wards/${scope.ward}/limits` : `/api/v1/patients/${scope.mrn}/limits`;
}

/** The limits of a scope. */
export function limitsOf(scope: LimitScope, signal?: AbortSignal): Promise<StoredLimits> {
  return getJson<StoredLimits>(limitsPath(scope), signal === undefined ? {} : { signal });
}

/** Stores the limits of a scope. The server rejects them if they were changed since `version`. */
export async function storeLimits(stored: StoredLimits, limits: StoredLimits['limits']): Promise<void> {
  await request(limitsPath(stored.scope), { method: 'PUT', json: { limits, version: stored.version } });
}

export const alarms = new Alarms();

/** Follows the alarms and sounds them while the page is open. To be called in an effect. */
export function runAlarms(): (() => void) | undefined {
  const isAllowed = session.state.state === 'signed-in' && session.may('read');
  return isAllowed ? untrack(() => alarms.start()) : undefined;
}

/** Sounds what has to sound. To be called in an effect. */
export function soundAlarms(): void {
  alarmSound.setActive(alarms.sounding);
}


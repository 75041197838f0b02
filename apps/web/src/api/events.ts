// The patients of the gateway, kept current by its server-sent events.
//
// Rules: after each new subscription and whenever events may have been lost, all patients are loaded again. An update is applied
// only if its version is higher. While nothing arrives, the state says since when the page may be out of date. What arrives after
// a user has signed out, or after the access to a patient has ended, is dropped if it was requested before.

import { createParser, type EventSourceMessage } from 'eventsource-parser';
import { SvelteMap, SvelteSet } from 'svelte/reactivity';
import { Cell } from './cell';
import { ApiError, allPatients, getJson, request } from './client';
import { serverClock } from './clock';
import type { DamagedRecord, PatientSummary, PatientUpdated, StreamState, SystemEvent } from './types.gen';

export type FeedMode =
  | 'connecting'
  /** Updates are pushed. */
  | 'live'
  /** The gateway answers, but has lost its broker: patients are polled. */
  | 'polling'
  /** Nothing can be loaded. */
  | 'offline';

export interface FeedState {
  mode: FeedMode;
  /** Start of this state, server time in milliseconds since 1970. */
  since: number;
  /** Why updates are not pushed. */
  error?: unknown;
}

/** Time without any event after which the connection counts as lost, in milliseconds, at least. The page says so within 2 s. */
const MIN_SILENCE_MS = 1_800;
/** Time to open the event stream, in milliseconds. Meanwhile the state says that the connection is lost. */
const OPEN_LIMIT_MS = 4_000;
const MIN_BACKOFF_MS = 40;
const MAX_BACKOFF_MS = 400;
const REJECTED_WAIT_MS = 5_000;
const POLL_MS = 1_000;
/** Interval of loading all patients although updates are pushed. */
const RELOAD_MS = 5 * 60_000;

type Listener = (update: PatientUpdated | undefined) => void;
/** Receives an event that is not about the summary of a patient, and `undefined` whenever events may have been lost. */
type SystemListener = (event: SystemEvent | undefined) => void;

export class Feed {
  readonly patients = new SvelteMap<number, PatientSummary>();
  readonly #state = new Cell<FeedState>({ mode: 'connecting', since: serverClock.nowMs() });
  readonly #damaged = new Cell<DamagedRecord[]>([]);
  readonly #loadedAt = new Cell(0);
  readonly #listeners = new Map<number, Set<Listener>>();
  readonly #systemListeners = new Set<SystemListener>();
  /** Patients of other wards to whom the access has ended. */
  readonly #forgotten = new SvelteSet<number>();
  #stop: AbortController | undefined;
  /** Ends the event stream and opens it again. */
  #restart: (() => void) | undefined;
  /** Increases when the access to a patient ends: a list of patients that was requested before is dropped. */
  #generation = 0;
  /** Aborts the wait before the next attempt. */
  #wake: (() => void) | undefined;
  /** Updates that arrive while all patients are loaded. */
  #held: PatientUpdated[] | undefined;
  #reload: Promise<void> | undefined;
  #reloadAgain = false;

  get state(): FeedState {
    return this.#state.value;
  }

  /** Damaged records, which are missing in `patients`. */
  get damaged(): DamagedRecord[] {
    return this.#damaged.value;
  }

  /** Whether the patients have been loaded at least once. */
  get isLoaded(): boolean {
    return this.#loadedAt.value > 0;
  }

  /** When the last complete load began, server time in milliseconds since 1970; 0 if there was none. */
  get loadedAt(): number {
    return this.#loadedAt.value;
  }

  start(): void {
    if (this.#stop !== undefined) return;
    this.#stop = new AbortController();
    void this.#run(this.#stop.signal);
  }

  stop(): void {
    this.#stop?.abort();
    this.#stop = undefined;
  }

  /** Forgets everything: another user has signed in. */
  clear(): void {
    this.stop();
    this.#reload = this.#held = undefined;
    this.#reloadAgain = false;
    this.patients.clear();
    this.#forgotten.clear();
    this.#loadedAt.value = 0;
    this.#damaged.value = [];
    this.#state.value = { mode: 'connecting', since: serverClock.nowMs() };
  }

  /**
   * Removes a patient at once: the access to a patient of another ward has ended. The patient appears again only if the server
   * states it from now on.
   */
  forget(mrn: number): void {
    this.#generation += 1;
    this.#forgotten.add(mrn);
    this.patients.delete(mrn);
    // What is on its way is not received any more, and all patients are loaded again until that succeeds.
    this.#restart?.();
    this.#wake?.();
  }

  /** Whether the access to this patient has ended. */
  isForgotten(mrn: number): boolean {
    return this.#forgotten.has(mrn);
  }

  /**
   * Calls the listener with each update of a patient, and with `undefined` whenever updates may have been lost, so that everything
   * about the patient has to be loaded again. Returns a function that ends this.
   */
  follow(mrn: number, listener: Listener): () => void {
    const listeners = this.#listeners.get(mrn) ?? new Set();
    this.#listeners.set(mrn, listeners.add(listener));
    return () => {
      listeners.delete(listener);
      if (listeners.size === 0) this.#listeners.delete(mrn);
    };
  }

  /** Calls the listener with each event about alarms, limits and wards. Returns a function that ends this. */
  followSystem(listener: SystemListener): () => void {
    this.#systemListeners.add(listener);
    return () => this.#systemListeners.delete(listener);
  }

  /** Loads all patients now. A page that was hidden may have missed updates. */
  async refresh(): Promise<void> {
    this.#wake?.();
    if (this.#state.peek().mode === 'live') await this.#load();
  }

  #report(mode: FeedMode, error?: unknown): void {
    const before = this.#state.peek();
    if (before.mode === mode) return;
    this.#state.value = { mode, since: serverClock.nowMs(), error };
  }

  async #run(stop: AbortSignal): Promise<void> {
    let backoff = MIN_BACKOFF_MS;
    while (!stop.aborted) {
      let failure: unknown;
      let restarts = false;
      try {
        restarts = await this.#followEvents(stop, () => (backoff = MIN_BACKOFF_MS));
      } catch (error) {
        failure = error;
      }
      if (stop.aborted) return;
      if (restarts) continue;
      this.#report('offline', failure);
      const rejected = failure instanceof ApiError && (failure.status === 401 || failure.status === 403);
      const wait = rejected ? REJECTED_WAIT_MS : backoff * (1 + Math.random());
      backoff = Math.min(backoff * 2, MAX_BACKOFF_MS);
      await this.#pause(wait, stop);
    }
  }

  #pause(ms: number, stop: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const done = () => {
        clearTimeout(timer);
        stop.removeEventListener('abort', done);
        this.#wake = undefined;
        resolve();
      };
      const timer = setTimeout(done, ms);
      stop.addEventListener('abort', done);
      this.#wake = done;
    });
  }

  /** Follows one event stream until it ends, breaks or is silent. Returns whether it is to be opened again at once. */
  async #followEvents(stop: AbortSignal, opened: () => void): Promise<boolean> {
    const abort = new AbortController();
    const end = () => abort.abort();
    stop.addEventListener('abort', end);
    let restarts = false;
    this.#restart = () => {
      restarts = true;
      abort.abort();
    };
    let silenceMs = MIN_SILENCE_MS;
    let silence: ReturnType<typeof setTimeout> | undefined;
    let poll: ReturnType<typeof setInterval> | undefined;
    let silent = false;
    const heard = () => {
      clearTimeout(silence);
      silence = setTimeout(() => {
        silent = true;
        abort.abort();
      }, silenceMs);
    };
    const { mode } = this.#state.peek();
    if (mode === 'live' || mode === 'polling') {
      // The stream is opened again.
      silence = setTimeout(() => this.#report('offline', new ApiError(0)), MIN_SILENCE_MS);
    }
    const reload = setInterval(() => this.#loadInBackground(), RELOAD_MS);
    const state = (data: string) => {
      const { time, keep_alive_ms, clock_problem } = JSON.parse(data) as StreamState;
      serverClock.received(time, clock_problem);
      silenceMs = Math.max(MIN_SILENCE_MS, keep_alive_ms * 2.4);
    };
    const live = () => {
      if (!abort.signal.aborted) this.#report('live');
    };
    const handle = async ({ event, data }: EventSourceMessage): Promise<void> => {
      if (abort.signal.aborted) return;
      switch (event) {
        case 'ready':
          state(data);
          opened();
          await this.#load();
          if (poll === undefined) live();
          break;
        case 'keep-alive':
          state(data);
          break;
        case 'updated':
          this.#take(JSON.parse(data) as PatientUpdated);
          break;
        case 'missed':
          clearInterval(poll);
          poll = undefined;
          await this.#load();
          live();
          break;
        case 'cut-off':
          this.#report('polling');
          poll ??= setInterval(() => this.#loadInBackground(), POLL_MS);
          break;
        case 'alarm':
        case 'limits':
        case 'wards':
        case 'patient': {
          const system = { ...(JSON.parse(data) as SystemEvent), event } as SystemEvent;
          if (system.event === 'patient') await this.#loadPatient(system.mrn, abort.signal);
          if (abort.signal.aborted) return;
          this.#systemListeners.forEach((listener) => listener(system));
          break;
        }
      }
    };
    let failed: unknown;
    const parser = createParser({
      onEvent: (message) => {
        handle(message).catch((error: unknown) => {
          failed = error;
          abort.abort();
        });
      },
    });
    try {
      const response = await request('/api/v1/events', {
        headers: { Accept: 'text/event-stream' },
        signal: abort.signal,
        timeoutMs: OPEN_LIMIT_MS,
      });
      if (response.body === null) throw new ApiError(0);
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      heard();
      for (;;) {
        const { value, done } = await reader.read();
        if (done || abort.signal.aborted) return restarts;
        heard();
        parser.feed(value);
      }
    } catch (error) {
      if (restarts) return true;
      throw failed ?? (silent ? new ApiError(0) : error);
    } finally {
      this.#restart = undefined;
      stop.removeEventListener('abort', end);
      clearTimeout(silence);
      clearInterval(poll);
      clearInterval(reload);
    }
  }

  #take(update: PatientUpdated): void {
    if (this.#held !== undefined) {
      this.#held.push(update);
      return;
    }
    const { patient } = update;
    const known = this.patients.get(patient.mrn);
    if (known !== undefined && known.version >= patient.version) return;
    this.#set(patient);
    this.#listeners.get(patient.mrn)?.forEach((listener) => listener(update));
  }

  #set(patient: PatientSummary): void {
    this.patients.set(patient.mrn, patient);
    this.#forgotten.delete(patient.mrn);
  }

  /** Loads a patient who was merged, erased or corrected, or forgets one who does not exist any more. */
  async #loadPatient(mrn: number, signal: AbortSignal): Promise<void> {
    let patient: PatientSummary | undefined;
    try {
      patient = await getJson<PatientSummary>(`/api/v1/patients/${mrn}`, { signal });
    } catch (error) {
      if (!(error instanceof ApiError) || (error.status !== 404 && error.status !== 410)) throw error;
    }
    if (signal.aborted) return;
    const known = this.patients.get(mrn);
    if (patient === undefined) this.patients.delete(mrn);
    else if (known === undefined || known.version <= patient.version) this.#set(patient);
    this.#listeners.get(mrn)?.forEach((listener) => listener(undefined));
  }

  #loadInBackground(): void {
    // A failure is visible by the event stream, which then is silent or ends.
    this.#load().catch(() => undefined);
  }

  /** Loads all patients. A call while patients are loaded loads them once more afterwards. */
  #load(): Promise<void> {
    if (this.#reload !== undefined) {
      this.#reloadAgain = true;
      return this.#reload;
    }
    const signal = this.#stop?.signal;
    if (signal === undefined) return Promise.resolve();
    const reload = this.#loadUntilCurrent(signal).finally(() => {
      if (this.#reload === reload) this.#reload = undefined;
    });
    this.#reload = reload;
    return reload;
  }

  async #loadUntilCurrent(signal: AbortSignal): Promise<void> {
    do {
      this.#reloadAgain = false;
      const held: PatientUpdated[] = [];
      this.#held = held;
      const began = serverClock.nowMs();
      const generation = this.#generation;
      try {
        const { items, damaged } = await allPatients(signal);
        if (signal.aborted) return;
        if (generation === this.#generation) {
          this.#replace(items);
          this.#damaged.value = damaged ?? [];
          this.#loadedAt.value = began;
        } else {
          this.#reloadAgain = true;
        }
      } finally {
        // Otherwise another user has signed in.
        if (this.#held === held) {
          this.#held = undefined;
          if (generation === this.#generation) held.forEach((update) => this.#take(update));
        }
      }
    } while (this.#reloadAgain);
    this.#listeners.forEach((listeners) => listeners.forEach((listener) => listener(undefined)));
    this.#systemListeners.forEach((listener) => listener(undefined));
  }

  /** Replaces all patients. A restored store may have lower versions, so that the snapshot decides. */
  #replace(patients: PatientSummary[]): void {
    const known = new Set(patients.map((patient) => patient.mrn));
    for (const mrn of [...this.patients.keys()]) if (!known.has(mrn)) this.patients.delete(mrn);
    for (const patient of patients) {
      if (this.patients.get(patient.mrn)?.version !== patient.version) this.#set(patient);
    }
  }
}

export const feed = new Feed();

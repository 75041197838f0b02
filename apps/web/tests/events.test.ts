import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { Feed } from '../src/api/events';
import type { PatientSummary } from '../src/api/types.gen';

const patient = (mrn: number, version: number): PatientSummary => ({
  mrn,
  version,
  created_at: '2026-03-14T15:00:00.000Z',
  updated_at: '2026-03-14T15:00:00.000Z',
});

/** A gateway with one open event stream. */
class Gateway {
  patients: PatientSummary[] = [];
  isUp = true;
  loads = 0;
  /** Resolves before the response of the next list of patients. */
  gate: Promise<void> = Promise.resolve();
  #stream: ReadableStreamDefaultController<Uint8Array> | undefined;

  fetch = async (path: string | URL | Request, init?: RequestInit): Promise<Response> => {
    if (!this.isUp) throw new TypeError('failed to fetch');
    if (String(path).startsWith('/api/v1/patients')) {
      this.loads += 1;
      const body = JSON.stringify({ items: this.patients });
      await this.gate;
      return new Response(body, { headers: { 'content-type': 'application/json' } });
    }
    const stream = new ReadableStream<Uint8Array>({ start: (controller) => void (this.#stream = controller) });
    init?.signal?.addEventListener('abort', () => this.#fail());
    this.send('ready', { keep_alive_ms: 750, time: new Date().toISOString() });
    return new Response(stream);
  };

  send(event: string, data: unknown): void {
    this.#stream?.enqueue(new TextEncoder().encode(`event: ${event}\ndata: ${JSON.stringify(data)}\n\n`));
  }

  update(of: PatientSummary): void {
    this.send('updated', { patient: of, changes: [] });
  }

  #fail(): void {
    try {
      this.#stream?.error(new DOMException('aborted', 'AbortError'));
    } catch {
      // It has ended.
    }
  }

  cut(): void {
    this.isUp = false;
    this.#fail();
  }
}

describe('the feed', () => {
  let gateway: Gateway;
  let feed: Feed;

  beforeEach(() => {
    vi.useFakeTimers();
    gateway = new Gateway();
    vi.stubGlobal('fetch', gateway.fetch);
    feed = new Feed();
  });

  afterEach(() => {
    feed.stop();
    vi.useRealTimers();
    vi.unstubAllGlobals();
  });

  const settle = () => vi.advanceTimersByTimeAsync(1);

  it('loads all patients and applies only higher versions', async () => {
    gateway.patients = [patient(1, 5)];
    feed.start();
    await settle();
    expect(feed.state.mode).toBe('live');
    for (const version of [4, 5, 7, 6]) gateway.update(patient(1, version));
    gateway.update(patient(2, 1));
    await settle();
    expect(feed.patients.get(1)?.version).toBe(7);
    expect(feed.patients.get(2)?.version).toBe(1);
  });

  it('keeps updates that arrive while patients are loaded', async () => {
    gateway.patients = [patient(1, 1)];
    let open = (): void => undefined;
    gateway.gate = new Promise((resolve) => (open = resolve));
    feed.start();
    await settle();
    gateway.update(patient(1, 2));
    await settle();
    expect(feed.patients.size).toBe(0);
    open();
    await settle();
    expect(feed.patients.get(1)?.version).toBe(2);
  });

  it('reports silence within 2 s, and loads again after it', async () => {
    feed.start();
    await settle();
    gateway.isUp = false;
    await vi.advanceTimersByTimeAsync(1_900);
    expect(feed.state.mode).toBe('offline');
    gateway.isUp = true;
    gateway.patients = [patient(3, 9)];
    await vi.advanceTimersByTimeAsync(2_000);
    expect(feed.state.mode).toBe('live');
    expect(feed.patients.get(3)?.version).toBe(9);
  });

  it('takes the lower versions of a restored store', async () => {
    gateway.patients = [patient(1, 50), patient(2, 1)];
    feed.start();
    await settle();
    gateway.cut();
    await settle();
    expect(feed.state.mode).toBe('offline');
    gateway.isUp = true;
    gateway.patients = [patient(1, 3)];
    await vi.advanceTimersByTimeAsync(1_000);
    expect([...feed.patients.values()].map(({ mrn, version }) => [mrn, version])).toEqual([[1, 3]]);
  });

  it('loads again when events were missed, and tells followers', async () => {
    feed.start();
    await settle();
    const followed = vi.fn();
    feed.follow(1, followed);
    gateway.patients = [patient(1, 2)];
    gateway.send('missed', {});
    await settle();
    expect(followed).toHaveBeenCalledWith(undefined);
    gateway.update(patient(1, 3));
    await settle();
    expect(followed).toHaveBeenLastCalledWith(expect.objectContaining({ patient: patient(1, 3) }));
  });

  it('drops a list of patients that arrives after a user has signed out', async () => {
    gateway.patients = [patient(1, 1)];
    let answer = (): void => undefined;
    gateway.gate = new Promise((resolve) => (answer = resolve));
    feed.start();
    await settle();
    feed.clear();
    answer();
    await settle();
    expect(feed.patients.size).toBe(0);
    expect(feed.isLoaded).toBe(false);
    expect(feed.state.mode).toBe('connecting');
  });

  it('does not mix the patients of two users', async () => {
    gateway.patients = [patient(1, 1)];
    let answer = (): void => undefined;
    gateway.gate = new Promise((resolve) => (answer = resolve));
    feed.start();
    await settle();
    gateway.update(patient(1, 2));
    await settle();
    feed.clear();
    gateway.patients = [patient(2, 1)];
    gateway.gate = Promise.resolve();
    feed.start();
    await settle();
    expect([...feed.patients.keys()]).toEqual([2]);
    answer();
    await settle();
    expect([...feed.patients.keys()]).toEqual([2]);
    expect(feed.state.mode).toBe('live');
  });

  it('forgets a patient at once, and drops what was on its way', async () => {
    gateway.patients = [patient(1, 1), patient(8, 5)];
    feed.start();
    await settle();
    let answer = (): void => undefined;
    gateway.gate = new Promise((resolve) => (answer = resolve));
    gateway.send('missed', {});
    await settle();
    gateway.update(patient(8, 6));
    gateway.patients = [patient(1, 2)];
    feed.forget(8);
    expect(feed.isForgotten(8)).toBe(true);
    expect([...feed.patients.keys()]).toEqual([1]);
    const late = answer;
    gateway.gate = new Promise((resolve) => (answer = resolve));
    late();
    await settle();
    expect([...feed.patients.keys()]).toEqual([1]);
    answer();
    await settle();
    expect([...feed.patients.values()].map(({ mrn, version }) => [mrn, version])).toEqual([[1, 2]]);
    expect(feed.state.mode).toBe('live');
    // The patient was transferred to a ward of the user.
    gateway.update(patient(8, 7));
    await settle();
    expect(feed.patients.get(8)?.version).toBe(7);
    expect(feed.isForgotten(8)).toBe(false);
  });

  it('forgets a patient although no request succeeds, and loads until one does', async () => {
    gateway.patients = [patient(1, 1), patient(8, 5)];
    feed.start();
    await settle();
    gateway.isUp = false;
    feed.forget(8);
    await settle();
    expect([...feed.patients.keys()]).toEqual([1]);
    expect(feed.state.mode).toBe('offline');
    gateway.isUp = true;
    gateway.patients = [patient(1, 2)];
    await vi.advanceTimersByTimeAsync(2_000);
    expect(feed.state.mode).toBe('live');
    expect([...feed.patients.values()].map(({ mrn, version }) => [mrn, version])).toEqual([[1, 2]]);
  });

  it('polls while the gateway has lost its broker', async () => {
    feed.start();
    await settle();
    gateway.send('cut-off', {});
    await settle();
    expect(feed.state.mode).toBe('polling');
    gateway.patients = [patient(1, 1)];
    for (let passed = 0; passed < 1_500; passed += 500) {
      gateway.send('keep-alive', { keep_alive_ms: 750, time: new Date().toISOString() });
      await vi.advanceTimersByTimeAsync(500);
    }
    expect(feed.patients.get(1)?.version).toBe(1);
    gateway.send('missed', {});
    await settle();
    expect(feed.state.mode).toBe('live');
    const { loads } = gateway;
    gateway.send('keep-alive', { keep_alive_ms: 750, time: new Date().toISOString() });
    await vi.advanceTimersByTimeAsync(1_500);
    expect(gateway.loads).toBe(loads);
  });
});

// A durable queue of uploads in this browser, as the patient app has one on disk.
//
// Each upload is written to IndexedDB with copies of its files and its idempotency key before it is sent. It is removed after
// the gateway has accepted it, so that no patient data stays on this device. Uploads are sent in order.
//
// Invariants: an upload that `put` has returned is not lost. The gateway stores it once, even if it is sent again after a
// reload. Only the user who made an upload sends it, because idempotency keys are per user.
//
// Failure modes: a transient error delays all uploads. An upload that the gateway rejects stays until the user acts, and does
// not delay the others. Of several tabs, the one that holds the lock sends. A browser without locks (a page without TLS from
// another machine) may send an upload from two tabs; the gateway stores it once.

import { Cell } from '../api/cell';
import { ApiError, getJson } from '../api/client';
import { serverClock } from '../api/clock';
import { change, readAll, remove, write, type OutboxEntry } from './db';
import { send, type Progress, type UploadAnswer } from './send';

/** First and longest wait between attempts, in milliseconds. The wait doubles after each failure. */
const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 15_000;
/** Wait after an error that needs an action of the user, such as an ended session. */
const BLOCKED_WAIT_MS = 30_000;
const LOCK = 'bedside-outbox';

/** What the outbox shows. */
export interface OutboxState {
  /** `undefined` until the outbox is read. */
  entries: OutboxEntry[] | undefined;
  /** Why there is no outbox, one sentence of the browser. */
  unavailable?: string;
  /** The upload that is being sent. */
  sending?: { id: string; progress: Progress };
  /** Why nothing is sent at present. */
  delayed?: ApiError;
}

/** What happened to an upload. */
export type OutboxEvent =
  | { type: 'delivered'; entry: OutboxEntry; answer: UploadAnswer }
  | { type: 'rejected'; entry: OutboxEntry; error: ApiError }
  | { type: 'delayed'; entry: OutboxEntry; error: ApiError };

/** What tabs tell each other. `event`: what happened, without the files of the upload and with the parts of its error. */
interface TabMessage {
  event?: { type: OutboxEvent['type']; entry: OutboxEntry; answer?: UploadAnswer; status?: number; problem?: ApiError['problem'] };
}

/** A random UUID. `crypto.randomUUID` exists only on pages with TLS or of this machine. */
export function uuid(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6]! & 0x0f) | 0x40;
  bytes[8] = (bytes[8]! & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join('-');
}

/** Whether the upload may succeed later without a change. */
function isTransient(error: ApiError): boolean {
  return error.status === 0 || error.status === 408 || error.status === 429 || error.status >= 500;
}

class Outbox {
  readonly #cell = new Cell<OutboxState>({ entries: undefined });
  readonly #listeners = new Set<(event: OutboxEvent) => void>();
  readonly #channel = typeof BroadcastChannel === 'undefined' ? undefined : new BroadcastChannel(LOCK);
  #owner: string | undefined;
  #running: AbortController | undefined;
  #wake: (() => void) | undefined;
  #attempt: { id: string; abort: AbortController } | undefined;

  constructor() {
    this.#channel?.addEventListener('message', ({ data }: MessageEvent<TabMessage>) => {
      void this.#reload().then(() => {
        this.retryNow();
        if (data.event !== undefined) this.#tellHere(received(data.event));
      });
    });
    window.addEventListener('online', () => this.retryNow());
  }

  get state(): OutboxState {
    return this.#cell.value;
  }

  /** Calls `listener` with everything that happens. Returns a function that ends this. */
  listen(listener: (event: OutboxEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** The entries of this user. */
  get own(): OutboxEntry[] {
    return (this.state.entries ?? []).filter((entry) => entry.owner === this.#owner);
  }

  /** Number of entries of other users. */
  get others(): number {
    return (this.state.entries ?? []).length - this.own.length;
  }

  /** Sends the uploads of this user from now on. `undefined`: nobody is signed in. */
  run(owner: string | undefined): void {
    if (owner === this.#owner && this.#running !== undefined) {
      this.retryNow();
      return;
    }
    this.#running?.abort();
    this.#attempt?.abort.abort();
    this.#owner = owner;
    const running = new AbortController();
    this.#running = running;
    void this.#reload().then(() => {
      if (owner === undefined || running.signal.aborted) return;
      if ('locks' in navigator) {
        navigator.locks.request(LOCK, { signal: running.signal }, () => this.#loop(running.signal)).catch(() => {
          // The wait for the lock ended with `running`.
        });
      } else {
        void this.#loop(running.signal);
      }
    });
  }

  /** Adds an upload. It is durable when this returns. */
  async put(upload: Omit<OutboxEntry, 'id' | 'key' | 'owner' | 'createdAt'>): Promise<string> {
    const createdAt = Date.now();
    const id = `${createdAt.toString(16).padStart(12, '0')}-${uuid()}`;
    await write({ ...upload, id, key: uuid(), owner: this.#owner ?? '', createdAt });
    // Without this the browser may remove the data when its disk is full. The user is not asked again after a refusal.
    void navigator.storage?.persist?.().catch(() => false);
    await this.#changed();
    return id;
  }

  /** Removes an upload. An attempt to send it is cancelled. */
  async discard(id: string): Promise<void> {
    await remove(id);
    if (this.#attempt?.id === id) this.#attempt.abort.abort();
    await this.#changed();
  }

  /** Sends a rejected upload again; `rename`: it may change the name of its patient. */
  async retry(id: string, rename = false): Promise<void> {
    const entry = this.state.entries?.find((one) => one.id === id);
    if (entry === undefined) return;
    const { rejected: _, ...rest } = entry;
    await change({ ...rest, rename: rename || entry.rename });
    await this.#changed();
  }

  /** Ends the current wait. */
  retryNow(): void {
    this.#wake?.();
  }

  async #changed(): Promise<void> {
    await this.#reload();
    this.#channel?.postMessage({} satisfies TabMessage);
    this.retryNow();
  }

  async #reload(): Promise<void> {
    try {
      const entries = await readAll();
      const { unavailable: _, ...rest } = this.#cell.value;
      this.#cell.value = { ...rest, entries };
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      this.#cell.value = { entries: undefined, unavailable: reason };
    }
  }

  #set(state: Partial<Pick<OutboxState, 'sending' | 'delayed'>>): void {
    const { sending: _sending, delayed: _delayed, ...rest } = this.#cell.value;
    this.#cell.value = { ...rest, ...state };
  }

  /** Tells all tabs what happened: the upload may be from another one. */
  #tell(event: OutboxEvent): void {
    this.#tellHere(event);
    const entry = { ...event.entry, files: [] };
    const parts =
      event.type === 'delivered' ? { answer: event.answer } : { status: event.error.status, problem: event.error.problem };
    this.#channel?.postMessage({ event: { type: event.type, entry, ...parts } } satisfies TabMessage);
  }

  #tellHere(event: OutboxEvent): void {
    for (const listener of this.#listeners) listener(event);
  }

  async #loop(signal: AbortSignal): Promise<void> {
    let wait = FIRST_WAIT_MS;
    while (!signal.aborted) {
      const entry = this.own.find((one) => one.rejected === undefined);
      if (entry === undefined) {
        await this.#pause(undefined, signal);
        continue;
      }
      const error = await this.#deliver(entry, signal);
      if (error === undefined) {
        wait = FIRST_WAIT_MS;
        continue;
      }
      // A removed upload or another user, not an error.
      if (signal.aborted) break;
      if (!this.own.some((one) => one.id === entry.id)) continue;
      const needsUser = error.status === 401 || error.status === 403;
      if (!needsUser && !isTransient(error)) {
        const nameDiffers = error.problem?.type === 'urn:bedside:problem:name-differs';
        const rejected = { ...entry, rejected: { reason: error.message, nameDiffers } };
        await change(rejected);
        this.#set({});
        await this.#reload();
        this.#tell({ type: 'rejected', entry: rejected, error });
        continue;
      }
      this.#set({ delayed: error });
      this.#tell({ type: 'delayed', entry, error });
      const retryMs = (error.retryAfterS ?? 0) * 1000;
      await this.#pause(needsUser ? BLOCKED_WAIT_MS : Math.min(retryMs || wait, BLOCKED_WAIT_MS), signal);
      wait = Math.min(wait * 2, LONGEST_WAIT_MS);
    }
    this.#set({});
  }

  /** Sends an upload and removes it. Returns why it was not accepted. */
  async #deliver(entry: OutboxEntry, signal: AbortSignal): Promise<ApiError | undefined> {
    const abort = new AbortController();
    const stop = () => abort.abort();
    signal.addEventListener('abort', stop, { once: true });
    this.#attempt = { id: entry.id, abort };
    try {
      const current = await this.#withServerTime(entry);
      this.#set({ sending: { id: entry.id, progress: { sent: 0, total: 0 } } });
      const report = (progress: Progress) => this.#set({ sending: { id: entry.id, progress } });
      const answer = await send(current, report, abort.signal);
      // If this fails, the upload is sent again and the gateway returns the same receipt.
      await remove(entry.id);
      this.#set({});
      await this.#reload();
      this.#tell({ type: 'delivered', entry: current, answer });
      return undefined;
    } catch (error) {
      this.#set({});
      return error instanceof ApiError ? error : new ApiError(0, undefined, undefined, error);
    } finally {
      signal.removeEventListener('abort', stop);
      this.#attempt = undefined;
    }
  }

  /** Corrects a recording time by the clock of this device to the clock of the server, once: a retry has the same content. */
  async #withServerTime(entry: OutboxEntry): Promise<OutboxEntry> {
    if (!entry.byThisDevice || entry.recordedAt === undefined) return entry;
    if (serverClock.aheadMs() === undefined) await getJson('/api/v1/clock').catch(forbidden);
    const ahead = serverClock.aheadMs() ?? 0;
    const recordedAt = Math.min(Math.round(entry.recordedAt + ahead), Math.round(serverClock.nowMs()));
    const corrected = { ...entry, recordedAt, byThisDevice: false };
    await change(corrected);
    return corrected;
  }

  async #pause(ms: number | undefined, signal: AbortSignal): Promise<void> {
    let timer: ReturnType<typeof setTimeout> | undefined;
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
      signal.addEventListener('abort', () => resolve(), { once: true });
      if (ms !== undefined) timer = setTimeout(resolve, ms);
    });
    clearTimeout(timer);
    this.#wake = undefined;
  }
}

/** The event of another tab. */
function received({ type, entry, answer, status, problem }: NonNullable<TabMessage['event']>): OutboxEvent {
  if (type === 'delivered' && answer !== undefined) return { type, entry, answer };
  const error = new ApiError(status ?? 0, problem);
  return { type: type === 'rejected' ? type : 'delayed', entry, error };
}

/** An uploader may not read the clock, but the response contains the time. */
function forbidden(error: unknown): void {
  if (!(error instanceof ApiError) || error.status !== 403) throw error;
}

export const outbox = new Outbox();

// Requests to the gateway. Every failure is an `ApiError`.

import { serverClock } from './clock';
import type { DamagedRecord, LoginMethods, PatientSummary, Problem } from './types.gen';

/** A failed request. */
export class ApiError extends Error {
  override name = 'ApiError';

  constructor(
    /** HTTP status; 0 if no response arrived. */
    readonly status: number,
    /** The problem document, if the response contained one. */
    readonly problem?: Problem & { login?: LoginMethods },
    /** Seconds after which the gateway accepts the request again. */
    readonly retryAfterS?: number,
    cause?: unknown,
  ) {
    super(problem?.detail ?? problem?.title ?? (status === 0 ? 'no response' : `status ${status}`), { cause });
  }

  /** No response arrived. */
  get isUnreachable(): boolean {
    return this.status === 0;
  }

  /** The session is missing or has ended. */
  get isUnauthorized(): boolean {
    return this.status === 401;
  }
}

export interface RequestOptions {
  method?: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  /** Sent as JSON. */
  json?: unknown;
  body?: BodyInit;
  headers?: Record<string, string>;
  signal?: AbortSignal;
  /** Time until the response begins, in milliseconds; 0: no limit. */
  timeoutMs?: number;
}

const DEFAULT_TIMEOUT_MS = 15_000;
let csrf: string | undefined;
let rejected: (() => void) | undefined;

/** Sets the value that requests with a session need if they change something. */
export function setCsrf(value: string | undefined): void {
  csrf = value;
}

/** The headers that a request with a session needs if it changes something, for requests by `XMLHttpRequest`. */
export function csrfHeaders(): Record<string, string> {
  return csrf === undefined ? {} : { 'X-Bedside-CSRF': csrf };
}

/** Sets what happens if the gateway rejects the session, or a change: another tab may have another session. */
export function onRejected(handler: () => void): void {
  rejected = handler;
}

/** Takes server time and clock problem from the headers of a response. */
export function takeClock(headers: Headers): void {
  const time = headers.get('bedside-time');
  if (time !== null) serverClock.received(time, headers.get('bedside-clock-problem'));
}

async function problemOf(response: Response): Promise<Problem | undefined> {
  if (!(response.headers.get('content-type') ?? '').includes('json')) return undefined;
  try {
    return (await response.json()) as Problem;
  } catch {
    return undefined;
  }
}

/**
 * Sends a request and returns its response if the status is 2xx.
 *
 * @throws {ApiError} if there is no response, or another status.
 */
export async function request(path: string, options: RequestOptions = {}): Promise<Response> {
  const method = options.method ?? 'GET';
  const headers: Record<string, string> = { Accept: 'application/json', ...options.headers };
  let body = options.body;
  if (options.json !== undefined) {
    headers['Content-Type'] = 'application/json';
    body = JSON.stringify(options.json);
  }
  if (method !== 'GET') Object.assign(headers, csrfHeaders());
  const timeoutMs = options.timeoutMs ?? DEFAULT_TIMEOUT_MS;
  const abort = new AbortController();
  const timer = timeoutMs > 0 ? setTimeout(() => abort.abort(new Error('timed out')), timeoutMs) : undefined;
  const stop = () => abort.abort(options.signal?.reason);
  if (options.signal?.aborted) stop();
  options.signal?.addEventListener('abort', stop, { once: true });
  let response: Response;
  try {
    response = await fetch(path, {
      method,
      headers,
      body: body ?? null,
      signal: abort.signal,
      credentials: 'same-origin',
      cache: 'no-store',
    });
  } catch (error) {
    options.signal?.removeEventListener('abort', stop);
    throw new ApiError(0, undefined, undefined, error);
  } finally {
    clearTimeout(timer);
  }
  takeClock(response.headers);
  if (response.ok) return response;
  options.signal?.removeEventListener('abort', stop);
  const retryAfter = Number(response.headers.get('retry-after') ?? NaN);
  const error = new ApiError(
    response.status,
    await problemOf(response),
    Number.isFinite(retryAfter) ? retryAfter : undefined,
  );
  const isOfChange = error.status === 403 && method !== 'GET';
  if ((error.isUnauthorized || isOfChange) && !path.startsWith('/api/v1/session')) rejected?.();
  throw error;
}

/** Sends a request and parses the JSON of its response. */
export async function getJson<T>(path: string, options: RequestOptions = {}): Promise<T> {
  const response = await request(path, options);
  try {
    return (await response.json()) as T;
  } catch (error) {
    throw new ApiError(0, undefined, undefined, error);
  }
}

/** A page of a list. */
export interface PageOf<T> {
  items: T[];
  damaged?: DamagedRecord[];
  next?: string | number | null;
}

/** Loads a list page by page; `path` has no query yet. */
export async function getAll<T>(path: string, limit: number, signal?: AbortSignal): Promise<PageOf<T>> {
  const all: PageOf<T> = { items: [], damaged: [] };
  let after: string | number | null | undefined;
  do {
    const query = new URLSearchParams({ limit: String(limit) });
    if (after !== undefined && after !== null) query.set('after', String(after));
    const page = await getJson<PageOf<T>>(`${path}?${query}`, signal === undefined ? {} : { signal });
    all.items.push(...page.items);
    all.damaged?.push(...(page.damaged ?? []));
    after = page.next;
  } while (after !== undefined && after !== null);
  return all;
}

/** All patients. */
export function allPatients(signal?: AbortSignal): Promise<PageOf<PatientSummary>> {
  return getAll<PatientSummary>('/api/v1/patients', 500, signal);
}

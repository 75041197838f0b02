// Sends one upload. `fetch` reports no progress of a request body, therefore this uses `XMLHttpRequest`.

import { ApiError, csrfHeaders } from '../api/client';
import { serverClock } from '../api/clock';
import type { Problem, ReceivedUpload, UploadReceipt } from '../api/types.gen';
import type { OutboxEntry } from './db';

/** The gateway's answer to an upload. */
export type UploadAnswer = { stored: UploadReceipt } | { accepted: ReceivedUpload };

/** Bytes of an upload that are sent. */
export interface Progress {
  sent: number;
  total: number;
}

/** Longest time without progress and without an answer, in milliseconds. */
const STALLED_MS = 60_000;

/** The form of an upload. Files come last, in the order of the entry. */
export function form(entry: OutboxEntry): FormData {
  const data = new FormData();
  if (entry.name !== undefined) data.append('name', entry.name);
  if (entry.rename) data.append('rename', 'true');
  if (entry.recordedAt !== undefined) data.append('recorded_at', new Date(entry.recordedAt).toISOString());
  if (entry.sampleRate !== undefined) data.append('ecg_sample_rate', String(entry.sampleRate));
  if (entry.lead !== undefined) data.append('ecg_lead', entry.lead);
  for (const file of entry.files) data.append(file.kind, file.blob, file.name);
  return data;
}

/**
 * Sends an upload.
 *
 * @throws {ApiError} if there is no answer, or an error.
 */
export function send(
  entry: OutboxEntry,
  report: (progress: Progress) => void,
  signal: AbortSignal,
): Promise<UploadAnswer> {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    let watchdog: ReturnType<typeof setTimeout> | undefined;
    const alive = () => {
      clearTimeout(watchdog);
      watchdog = setTimeout(() => request.abort(), STALLED_MS);
    };
    const stop = () => request.abort();
    const end = () => {
      clearTimeout(watchdog);
      signal.removeEventListener('abort', stop);
    };
    request.open('POST', `/api/v1/patients/${entry.mrn}/uploads`);
    request.setRequestHeader('Accept', 'application/json');
    request.setRequestHeader('Idempotency-Key', entry.key);
    for (const [name, value] of Object.entries(csrfHeaders())) request.setRequestHeader(name, value);
    request.upload.onprogress = (event) => {
      alive();
      report({ sent: event.loaded, total: event.total });
    };
    request.onload = () => {
      end();
      const time = request.getResponseHeader('bedside-time');
      if (time !== null) serverClock.received(time, request.getResponseHeader('bedside-clock-problem'));
      const body = parsed(request.responseText);
      if (request.status === 201 && body !== undefined) resolve({ stored: body as UploadReceipt });
      else if (request.status === 202 && body !== undefined) resolve({ accepted: body as ReceivedUpload });
      else reject(error(request, body));
    };
    request.onerror = request.onabort = () => {
      end();
      reject(new ApiError(0));
    };
    signal.addEventListener('abort', stop, { once: true });
    if (signal.aborted) {
      end();
      reject(new ApiError(0));
      return;
    }
    alive();
    request.send(form(entry));
  });
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}

function error(request: XMLHttpRequest, body: unknown): ApiError {
  const wait = Number(request.getResponseHeader('retry-after') ?? NaN);
  const isProblem = typeof body === 'object' && body !== null && 'title' in body;
  // A success without a document came from something between this page and the gateway.
  const status = request.status >= 200 && request.status < 300 ? 0 : request.status;
  return new ApiError(status, isProblem ? (body as Problem) : undefined, Number.isFinite(wait) ? wait : undefined);
}

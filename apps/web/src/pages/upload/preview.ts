// The preview of an ECG: the gateway analyses and draws a file that is not stored.

import { ApiError, getJson } from '../../api/client';
import type { EcgPreview } from '../../api/types.gen';

export type { EcgPreview };

/** How to read an ECG. */
export interface SignalOptions {
  sampleRate?: number;
  lead?: string;
}

/** The result of a preview. */
export type PreviewResult =
  | { type: 'found'; preview: EcgPreview }
  /** Another sampling rate or lead could make the file readable. */
  | { type: 'needs-options'; reason: string }
  /** The file cannot be used. */
  | { type: 'rejected'; reason: string }
  /** There is no preview. The file can be uploaded. */
  | { type: 'none'; error: ApiError };

/** Waits after which a busy gateway is asked again, in milliseconds. */
const BUSY_WAITS_MS = [1_000, 3_000, 6_000];
/** The gateway limits the analysis itself. */
const TIMEOUT_MS = 120_000;

/** Asks for the preview of a file. `signal`: the user has removed the file or changed the options. */
export async function previewOf(file: File, options: SignalOptions, signal: AbortSignal): Promise<PreviewResult> {
  for (let attempt = 0; ; attempt += 1) {
    const body = new FormData();
    if (options.sampleRate !== undefined) body.append('ecg_sample_rate', String(options.sampleRate));
    if (options.lead !== undefined) body.append('ecg_lead', options.lead);
    body.append('ecg', file, file.name);
    try {
      const request = { method: 'POST', body, signal, timeoutMs: TIMEOUT_MS } as const;
      return { type: 'found', preview: await getJson<EcgPreview>('/api/v1/ecg/preview', request) };
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      const problem = error.problem?.type;
      if (problem === 'urn:bedside:problem:ecg-needs-options') return { type: 'needs-options', reason: error.message };
      if (problem === 'urn:bedside:problem:not-an-ecg' || error.status === 415 || error.status === 400) {
        return { type: 'rejected', reason: error.message };
      }
      const wait = BUSY_WAITS_MS[attempt];
      if ((error.status !== 429 && error.status !== 503) || wait === undefined || signal.aborted) {
        return { type: 'none', error };
      }
      await new Promise((resolve) => setTimeout(resolve, wait));
    }
  }
}

/** Start of the recording in milliseconds since 1970. A time without an offset is local time. */
export function startOf(preview: EcgPreview): number | undefined {
  const at = preview.started_at ? Date.parse(preview.started_at) : NaN;
  return Number.isNaN(at) ? undefined : at;
}

/** The picture as a blob. */
export function pictureOf(preview: EcgPreview): Blob {
  const text = atob(preview.plot.base64);
  const bytes = new Uint8Array(text.length);
  for (let index = 0; index < text.length; index += 1) bytes[index] = text.charCodeAt(index);
  return new Blob([bytes], { type: preview.plot.media_type });
}

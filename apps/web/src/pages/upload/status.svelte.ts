// What became of the uploads of this page: the upload of the form, messages, and the server's analysis of its ECGs.

import { ApiError, getJson } from '../../api/client';
import { session } from '../../api/session';
import type { EcgRecord, NameConflict, UploadReceipt } from '../../api/types.gen';
import { errorText, number, t } from '../../i18n';
import type { OutboxEntry, Previewed } from '../../outbox/db';
import { outbox, type OutboxEvent } from '../../outbox/outbox';
import type { UploadAnswer } from '../../outbox/send';
import { form } from './form.svelte';

/** Waits between requests for an analysis, in milliseconds: the sum is two minutes. */
const POLLS_MS = [500, 500, 1_000, 1_000, 2_000, ...Array<number>(23).fill(5_000)];
/** Rates that differ by less than this agree, because both are shown as whole beats per minute. */
const MAX_DIFFERENCE_BPM = 1;

export interface Banner {
  tone: 'info' | 'ok' | 'warning' | 'danger';
  text: string;
  /** What is stored, one line each. */
  lines: string[];
  /** The patient of a stored upload. */
  mrn?: number;
}

/** An ECG of the last upload. */
export interface UploadedEcg {
  id: string;
  preview: Previewed;
  record?: EcgRecord;
}

class UploadStatus {
  /** The entry of the outbox that holds the upload of the form. */
  current: string | undefined = $state();
  banner: Banner | undefined = $state();
  /** The gateway has rejected the upload of the form because the patient has another name. */
  conflict: { id: string; mrn: number; names: NameConflict } | undefined = $state();
  ecgs: UploadedEcg[] = $state([]);
  #polling: AbortController | undefined;

  constructor() {
    outbox.listen((event) => this.#handle(event));
  }

  /** Whether an upload of the form is in progress. */
  get isBusy(): boolean {
    return this.current !== undefined;
  }

  /** Writes the form to the outbox, which sends it. */
  async start(): Promise<void> {
    const upload = form.upload(form.renames);
    if (upload === undefined || this.isBusy) return;
    this.banner = undefined;
    this.#forget();
    this.current = 'new';
    try {
      this.current = await outbox.put(upload);
    } catch (error) {
      this.current = undefined;
      this.#show('danger', t('upload.not_uploaded', { reason: errorText(error) }));
    }
  }

  /** Cancels the upload of the form. */
  async cancel(): Promise<void> {
    const id = this.current;
    if (id === undefined || id === 'new') return;
    await outbox.discard(id);
    this.current = undefined;
    this.conflict = undefined;
    this.#show('info', t('upload.cancelled'));
  }

  /** Sends the upload of the form again and allows it to change the name. */
  async confirmRename(): Promise<void> {
    const conflict = this.conflict;
    this.conflict = undefined;
    if (conflict !== undefined) await outbox.retry(conflict.id, true);
  }

  closeBanner(): void {
    this.banner = undefined;
  }

  #show(tone: Banner['tone'], text: string, lines: string[] = [], mrn?: number): void {
    this.banner = { tone, text, lines, ...(mrn === undefined ? {} : { mrn }) };
  }

  #handle(event: OutboxEvent): void {
    const { entry } = event;
    const isCurrent = entry.id === this.current;
    if (event.type === 'delivered') {
      const text = answerText(event.answer);
      const mrn = 'stored' in event.answer ? entry.mrn : undefined;
      const lines = receiptLines(entry, event.answer);
      if (isCurrent) {
        this.current = undefined;
        this.conflict = undefined;
        form.clear();
        this.#show('ok', text, lines, mrn);
      } else {
        this.#show('info', t('upload.backlog_sent', { answer: text }), lines, mrn);
      }
      if ('stored' in event.answer) this.#compare(event.answer.stored, entry.previews);
    } else if (event.type === 'rejected') {
      this.#rejected(entry, event.error, isCurrent);
    } else if (isCurrent) {
      if (event.error.status === 403) {
        void this.#takeBack(entry.id, event.error);
      } else {
        this.current = undefined;
        form.clear();
        this.#show('warning', t('upload.kept', { mrn: entry.mrn, reason: errorText(event.error) }));
      }
    }
  }

  #rejected(entry: OutboxEntry, error: ApiError, isCurrent: boolean): void {
    const names = error.problem?.names;
    if (!isCurrent) this.#show('warning', t('upload.backlog_rejected', { reason: errorText(error) }));
    else if (names) this.conflict = { id: entry.id, mrn: entry.mrn, names };
    else void this.#takeBack(entry.id, error);
  }

  /** Removes an upload that cannot succeed from the outbox. Its content is still in the form. */
  async #takeBack(id: string, error: ApiError): Promise<void> {
    this.current = undefined;
    this.#show('danger', t('upload.not_uploaded', { reason: errorText(error) }));
    await outbox.discard(id);
  }

  #forget(): void {
    this.#polling?.abort();
    this.#polling = undefined;
    this.ecgs = [];
  }

  /** Waits for the server's analysis of the ECGs and compares it with the previews. */
  #compare(receipt: UploadReceipt, previews: Previewed[]): void {
    this.#forget();
    const ids = receipt.files.filter((file) => file.kind === 'ecg').map((file) => file.id);
    this.ecgs = ids.flatMap((id, index) => {
      const preview = previews[index];
      return preview === undefined ? [] : [{ id, preview }];
    });
    if (this.ecgs.length === 0 || !session.may('read')) {
      this.ecgs = [];
      return;
    }
    this.#polling = new AbortController();
    void this.#poll(this.#polling.signal);
  }

  async #poll(signal: AbortSignal): Promise<void> {
    for (const wait of POLLS_MS) {
      await new Promise((resolve) => setTimeout(resolve, wait));
      if (signal.aborted) return;
      for (const ecg of this.ecgs.filter((one) => one.record === undefined)) {
        try {
          const record = await getJson<EcgRecord>(`/api/v1/ecgs/${ecg.id}`, { signal });
          if (signal.aborted) return;
          if (record.status !== 'pending') ecg.record = record;
        } catch {
          // The next request may succeed. The connection status of the page says what is wrong.
        }
      }
      if (this.ecgs.every((one) => one.record !== undefined)) return;
    }
  }
}

/** The gateway's answer to an upload. */
function answerText(answer: UploadAnswer): string {
  if ('accepted' in answer) return t('upload.answer.accepted', { mrn: answer.accepted.mrn });
  const { mrn, patient_created, changed } = answer.stored;
  if (patient_created) return t('upload.answer.created', { mrn });
  return t(changed ? 'upload.answer.updated' : 'upload.answer.unchanged', { mrn });
}

/** What the receipt says is stored. */
function receiptLines(entry: OutboxEntry, answer: UploadAnswer): string[] {
  if ('accepted' in answer) return [];
  const lines: string[] = [];
  if (answer.stored.name_kept) lines.push(t('upload.name_kept'));
  else if (entry.name !== undefined) lines.push(t('upload.receipt.name', { name: entry.name }));
  for (const file of answer.stored.files) {
    lines.push(`${t(`upload.kind.${file.kind}`)}: ${file.file_name ?? t('upload.no_file_name')}`);
  }
  return lines;
}

const rate = (bpm: number | null | undefined): string =>
  typeof bpm === 'number' ? t('upload.bpm', { rate: number(bpm) }) : t('upload.no_rate');

/** How the server's analysis compares with the preview, one sentence; `undefined` while it is pending. */
export function comparison(ecg: UploadedEcg): { text: string; agrees: boolean } | undefined {
  const { record, preview } = ecg;
  if (record === undefined) return undefined;
  const { name } = preview;
  if (record.status === 'failed') {
    return { text: t('upload.compare.failed', { name, reason: record.failure ?? t('upload.compare.no_reason') }), agrees: false };
  }
  const server = record.analysis?.heart_rate?.mean_bpm ?? null;
  if (preview.bpm === undefined) return { text: t('upload.compare.found', { name, rate: rate(server) }), agrees: true };
  const agrees =
    server === null || preview.bpm === null
      ? server === preview.bpm
      : Math.abs(server - preview.bpm) < MAX_DIFFERENCE_BPM;
  if (!agrees) {
    return { text: t('upload.compare.differs', { name, server: rate(server), preview: rate(preview.bpm) }), agrees };
  }
  return { text: t('upload.compare.agrees', { name, rate: rate(server) }), agrees };
}

export const status = new UploadStatus();

// The form of an upload: patient, files, recording. It survives a change of the page, but not a reload; what the user has sent is
// in the outbox.

import { ApiError, getJson } from '../../api/client';
import { CLOCK_TOLERANCE_MS, serverClock } from '../../api/clock';
import { session } from '../../api/session';
import type { NameCheck, PatientSummary } from '../../api/types.gen';
import { errorText, number, t, tn } from '../../i18n';
import { bytes } from '../../i18n/format';
import type { OutboxEntry } from '../../outbox/db';
import { outbox } from '../../outbox/outbox';
import { parseMrn } from '../../router';
import { MAX_ECG_BYTES, MAX_IMAGE_BYTES, MAX_IMAGE_PIXELS, pixelsOf, type Kind, type Pixels } from './files';
import { pictureOf, previewOf, startOf, type EcgPreview, type SignalOptions } from './preview';
import { suggestion, type Suggestion } from './recording';

/** Longest texts that the gateway accepts, in characters. */
const MAX_NAME_CHARS = 500;
const MAX_LEAD_CHARS = 100;
const MIN_RATE_HZ = 1;
const MAX_RATE_HZ = 100_000;
/** Pause after the last key before the gateway is asked, in milliseconds. */
const TYPING_PAUSE_MS = 300;
const CONTROL = /[\u0000-\u001f\u007f-\u009f]/;

/** What is known about the record number. */
export type Lookup =
  | { type: 'unknown' }
  | { type: 'not-found' }
  /** A patient has this number; `name` only for users who may read. `match`: whether the entered name is the stored one. */
  | { type: 'found'; name?: string; match?: NameCheck['result'] }
  | { type: 'unavailable'; reason: string };

/** A selected file. */
export class SelectedFile {
  /** When it was selected, by the clock of this device. */
  readonly selectedAt = Date.now();
  state: 'reading' | 'ready' | 'needs-options' = $state('reading');
  /** Why the file cannot be read with the entered options. */
  reason = $state('');
  preview: EcgPreview | undefined = $state();
  /** Why there is no preview, although the file can be uploaded. */
  noPreview: string | undefined = $state();
  pixels: Pixels | undefined = $state();
  /** Address of the picture: the image itself, or the drawing of the ECG. */
  picture: string | undefined = $state();
  reading = new AbortController();

  constructor(
    readonly id: number,
    readonly kind: Kind,
    readonly file: File,
  ) {}

  get statedAt(): number | undefined {
    const at = this.preview === undefined ? undefined : startOf(this.preview);
    // A time in the future was written by a wrong clock.
    return at !== undefined && at - this.selectedAt <= CLOCK_TOLERANCE_MS ? at : undefined;
  }

  /** Mean heart rate; `null`: none found; `undefined`: no preview. */
  get bpm(): number | null | undefined {
    return this.preview === undefined ? undefined : (this.preview.analysis.heart_rate?.mean_bpm ?? null);
  }

  /** One line about the content. */
  get detail(): string {
    const size = bytes(this.file.size);
    if (this.state === 'reading') return t('upload.reading');
    if (this.state === 'needs-options') return t('upload.needs_options');
    if (this.pixels !== undefined) return `${number(this.pixels.width)} × ${number(this.pixels.height)}, ${size}`;
    if (this.preview === undefined) return `${t('upload.no_preview')}, ${size}`;
    const { quality } = this.preview.analysis;
    const rate = typeof this.bpm === 'number' ? t('upload.bpm', { rate: number(this.bpm) }) : t('upload.no_rate');
    return t('upload.ecg_detail', { rate, quality: t(`upload.quality.${quality}`), size });
  }

  setPicture(blob: Blob): void {
    this.forgetPicture();
    this.picture = URL.createObjectURL(blob);
  }

  forgetPicture(): void {
    if (this.picture !== undefined) URL.revokeObjectURL(this.picture);
    this.picture = undefined;
  }
}

export class UploadForm {
  mrn = $state('');
  name = $state('');
  sampleRate = $state('');
  lead = $state('');
  /** `undefined` while the suggested time is used; empty: not known. Local time as of `datetime-local`. */
  enteredTime: string | undefined = $state();
  files: SelectedFile[] = $state([]);
  /** The ECG and the image that are shown. */
  shownEcg: number | undefined = $state();
  shownImage: number | undefined = $state();
  lookup: Lookup = $state({ type: 'unknown' });
  /** The ECGs will be read again when the user stops typing. */
  isSettling = $state(false);
  /** Files that were rejected, one sentence each. */
  rejections: string[] = $state([]);
  #nextId = 0;
  #lookupNumber = 0;
  #lookupTimer: ReturnType<typeof setTimeout> | undefined;
  #settleTimer: ReturnType<typeof setTimeout> | undefined;

  get ecgs(): SelectedFile[] {
    return this.files.filter((file) => file.kind === 'ecg');
  }

  get isEmpty(): boolean {
    return this.files.length === 0 && this.mrn.trim() === '' && this.name.trim() === '';
  }

  get parsedMrn(): number | undefined {
    return parseMrn(this.mrn.trim());
  }

  get mrnError(): string | undefined {
    const text = this.mrn.trim();
    return text === '' || this.parsedMrn !== undefined ? undefined : t('upload.mrn_invalid');
  }

  get trimmedName(): string | undefined {
    return this.name.trim() || undefined;
  }

  get nameError(): string | undefined {
    const name = this.trimmedName;
    if (name === undefined) return undefined;
    if ([...name].length > MAX_NAME_CHARS) return t('upload.name_too_long', { max: number(MAX_NAME_CHARS) });
    return CONTROL.test(name) ? t('upload.name_control') : undefined;
  }

  /** Whether the upload would change the name of a known patient. */
  get renames(): boolean {
    return this.trimmedName !== undefined && this.lookup.type === 'found' && this.lookup.match === 'different';
  }

  get patientHint(): string {
    const { lookup } = this;
    switch (lookup.type) {
      case 'unknown':
        return '';
      case 'not-found':
        return t('upload.lookup.new');
      case 'unavailable':
        return t('upload.lookup.unavailable', { reason: lookup.reason });
      case 'found':
        if (lookup.name !== undefined) {
          return t(this.renames ? 'upload.lookup.belongs' : 'upload.lookup.known', { name: lookup.name });
        }
        if (lookup.match === 'same') return t('upload.lookup.same');
        if (lookup.match === 'different') return t('upload.lookup.different');
        return t(session.may('read') ? 'upload.lookup.unnamed' : 'upload.lookup.new_or_unnamed');
    }
  }

  /** The question to confirm before an upload that would change the name of a known patient. */
  get renameWarning(): string | undefined {
    if (!this.renames || this.lookup.type !== 'found') return undefined;
    return renameWarning(this.mrn.trim(), this.trimmedName ?? '', this.lookup.name);
  }

  /** Asks about the record number after a pause. */
  patientEdited(pauseMs = TYPING_PAUSE_MS): void {
    clearTimeout(this.#lookupTimer);
    this.lookup = { type: 'unknown' };
    this.#lookupNumber += 1;
    const mrn = this.parsedMrn;
    if (mrn === undefined) return;
    this.#lookupTimer = setTimeout(() => void this.lookUp(), pauseMs);
  }

  /** Asks who has the record number and whether the entered name is the stored one. */
  async lookUp(): Promise<void> {
    clearTimeout(this.#lookupTimer);
    const [mrn, name] = [this.parsedMrn, this.nameError === undefined ? this.trimmedName : undefined];
    if (mrn === undefined) return;
    this.#lookupNumber += 1;
    const current = this.#lookupNumber;
    const result = await look(mrn, name);
    if (current === this.#lookupNumber) this.lookup = result;
  }

  /** Adds files. Returns the names of those that are selected already. */
  add(files: Iterable<File>, kind: (file: File) => Kind): string[] {
    const already: string[] = [];
    this.rejections = [];
    for (const file of files) {
      const chosen = kind(file);
      const same = this.files.find(
        (one) =>
          one.kind === chosen &&
          one.file.name === file.name &&
          one.file.size === file.size &&
          one.file.lastModified === file.lastModified,
      );
      if (same !== undefined) {
        already.push(file.name);
        this.show(same);
        continue;
      }
      this.files.push(new SelectedFile(this.#nextId, chosen, file));
      this.#nextId += 1;
      const added = this.files[this.files.length - 1]!;
      this.show(added);
      void this.#read(added);
    }
    return already;
  }

  show(file: SelectedFile): void {
    if (file.kind === 'ecg') this.shownEcg = file.id;
    else this.shownImage = file.id;
  }

  shown(kind: Kind): SelectedFile | undefined {
    const id = kind === 'ecg' ? this.shownEcg : this.shownImage;
    return this.files.find((file) => file.kind === kind && file.id === id);
  }

  remove(id: number): void {
    const removed = this.files.find((file) => file.id === id);
    if (removed === undefined) return;
    removed.reading.abort();
    removed.forgetPicture();
    this.files = this.files.filter((file) => file.id !== id);
    const next = this.files.findLast((file) => file.kind === removed.kind);
    if (next !== undefined && this.shown(removed.kind) === undefined) this.show(next);
    // An entered time does not apply to files that are selected later.
    if (this.ecgs.length === 0) this.enteredTime = undefined;
  }

  clear(): void {
    clearTimeout(this.#lookupTimer);
    clearTimeout(this.#settleTimer);
    this.#lookupNumber += 1;
    for (const file of this.files) {
      file.reading.abort();
      file.forgetPicture();
    }
    this.files = [];
    this.mrn = this.name = this.sampleRate = this.lead = '';
    this.enteredTime = undefined;
    this.lookup = { type: 'unknown' };
    this.isSettling = false;
    this.rejections = [];
  }

  /** Sampling rate and lead as entered, or why they are invalid. */
  get signalOptions(): { options: SignalOptions; error?: undefined } | { error: string } {
    const rate = this.sampleRate.trim().replace(',', '.');
    const lead = this.lead.trim();
    const options: SignalOptions = {};
    if (rate !== '') {
      const value = Number(rate);
      if (!(value >= MIN_RATE_HZ && value <= MAX_RATE_HZ)) {
        return { error: t('upload.rate_invalid', { min: number(MIN_RATE_HZ), max: number(MAX_RATE_HZ) }) };
      }
      options.sampleRate = value;
    }
    if ([...lead].length > MAX_LEAD_CHARS || CONTROL.test(lead)) {
      return { error: t('upload.lead_invalid', { max: number(MAX_LEAD_CHARS) }) };
    }
    if (lead !== '') options.lead = lead;
    return { options };
  }

  /** Reads the ECGs again when the user stops typing. */
  optionsEdited(): void {
    clearTimeout(this.#settleTimer);
    this.isSettling = this.ecgs.length > 0;
    this.#settleTimer = setTimeout(() => {
      this.isSettling = false;
      if (this.signalOptions.error !== undefined) return;
      for (const file of this.ecgs) void this.#read(file);
    }, TYPING_PAUSE_MS);
  }

  /** Reads the files without a preview again: the server answers again. */
  readAgain(): void {
    for (const file of this.ecgs) if (file.noPreview !== undefined) void this.#read(file);
  }

  async #read(file: SelectedFile): Promise<void> {
    file.reading.abort();
    const reading = new AbortController();
    file.reading = reading;
    file.state = 'reading';
    file.noPreview = undefined;
    if (file.kind === 'ecg') await this.#readEcg(file, reading.signal);
    else await this.#readImage(file, reading.signal);
  }

  async #readEcg(file: SelectedFile, signal: AbortSignal): Promise<void> {
    if (file.file.size === 0) return this.#reject(file, t('upload.empty'));
    if (file.file.size > MAX_ECG_BYTES) {
      const limit = { size: bytes(file.file.size), max: bytes(MAX_ECG_BYTES) };
      return this.#reject(file, t('upload.ecg_too_large', limit));
    }
    if (!(await isReadable(file.file))) return this.#reject(file, t('upload.unreadable'));
    const { options } = { options: {}, ...this.signalOptions };
    const result = await previewOf(file.file, options, signal);
    if (signal.aborted) return;
    file.preview = undefined;
    file.forgetPicture();
    switch (result.type) {
      case 'found':
        file.preview = result.preview;
        file.setPicture(pictureOf(result.preview));
        file.state = 'ready';
        break;
      case 'needs-options':
        file.reason = result.reason;
        file.state = 'needs-options';
        break;
      case 'none':
        file.noPreview = errorText(result.error);
        file.state = 'ready';
        break;
      case 'rejected':
        this.#reject(file, result.reason);
    }
  }

  async #readImage(file: SelectedFile, signal: AbortSignal): Promise<void> {
    if (file.file.size > MAX_IMAGE_BYTES) {
      const limit = { size: bytes(file.file.size), max: bytes(MAX_IMAGE_BYTES) };
      return this.#reject(file, t('upload.image_too_large', limit));
    }
    const pixels = await pixelsOf(file.file).catch(() => undefined);
    if (signal.aborted) return;
    if (pixels === undefined) return this.#reject(file, t('upload.no_image'));
    if (pixels.width * pixels.height > MAX_IMAGE_PIXELS) {
      const { width, height } = pixels;
      const limit = { width: number(width), height: number(height), max: number(MAX_IMAGE_PIXELS / 1e6) };
      return this.#reject(file, t('upload.too_many_pixels', limit));
    }
    file.pixels = pixels;
    file.setPicture(file.file);
    file.state = 'ready';
  }

  /** The browser cannot decode an image. */
  imageFailed(file: SelectedFile): void {
    if (this.files.includes(file)) this.#reject(file, t('upload.damaged_image'));
  }

  #reject(file: SelectedFile, reason: string): void {
    this.remove(file.id);
    this.rejections = [...this.rejections, t('upload.rejected', { name: file.file.name, reason })];
  }

  get suggestion(): Suggestion {
    return suggestion(this.ecgs);
  }

  /** The recording time to send, or why there is none. */
  get time(): { at?: number; byThisDevice: boolean; error?: undefined } | { error: string } {
    const { suggestion, enteredTime } = this;
    if (suggestion.type === 'no-ecg') return { byThisDevice: false };
    if (enteredTime === undefined) {
      if (suggestion.type === 'conflicting') return { error: t('upload.time_conflicting') };
      return { at: suggestion.at, byThisDevice: suggestion.type === 'selected' };
    }
    if (enteredTime === '') return { byThisDevice: false };
    const at = new Date(enteredTime).getTime();
    if (Number.isNaN(at)) return { error: t('upload.time_invalid') };
    if (at - serverClock.nowMs() > CLOCK_TOLERANCE_MS) return { error: t('upload.time_future') };
    return { at, byThisDevice: false };
  }

  /** Where the recording time comes from. */
  get timeSource(): string {
    if (this.enteredTime !== undefined) return t('upload.time_entered');
    return t(this.suggestion.type === 'stated' ? 'upload.time_stated' : 'upload.time_selected');
  }

  /** Number and size of the files. */
  get totals(): string {
    const ecgs = this.ecgs.length;
    const images = this.files.length - ecgs;
    const parts: string[] = [];
    if (images > 0) parts.push(tn('upload.images', images));
    if (ecgs > 0) parts.push(tn('upload.ecgs', ecgs));
    if (parts.length === 0) return t('upload.no_files');
    const size = this.files.reduce((sum, file) => sum + file.file.size, 0);
    return `${parts.join(t('upload.and'))}, ${bytes(size)}`;
  }

  /** Why nothing can be uploaded now. */
  get problem(): string | undefined {
    const { unavailable, entries } = outbox.state;
    if (unavailable !== undefined) return t('upload.no_outbox', { reason: unavailable });
    if (entries === undefined) return t('upload.starting');
    if (this.mrn.trim() === '') return t('upload.enter_mrn');
    if (this.mrnError !== undefined) return this.mrnError;
    if (this.nameError !== undefined) return this.nameError;
    if (this.trimmedName === undefined && this.files.length === 0) return t('upload.enter_something');
    if (this.ecgs.length > 0) {
      const options = this.signalOptions;
      if (options.error !== undefined) return options.error;
      if (this.isSettling) return t('upload.reading_again');
      const time = this.time;
      if (time.error !== undefined) return time.error;
    }
    for (const file of this.files) {
      if (file.state === 'reading') return t('upload.reading_file', { name: file.file.name });
      if (file.state === 'needs-options') return `${file.file.name}: ${file.reason}`;
    }
    return undefined;
  }

  /** The upload for the outbox. `rename`: the user has confirmed a change of the name. */
  upload(rename: boolean): Omit<OutboxEntry, 'id' | 'key' | 'owner' | 'createdAt'> | undefined {
    const [mrn, time, signal] = [this.parsedMrn, this.time, this.signalOptions];
    if (this.problem !== undefined || mrn === undefined) return undefined;
    if (time.error !== undefined || signal.error !== undefined) return undefined;
    const hasEcgs = this.ecgs.length > 0;
    return {
      mrn,
      ...(this.trimmedName === undefined ? {} : { name: this.trimmedName }),
      rename,
      ...(time.at === undefined ? {} : { recordedAt: time.at }),
      byThisDevice: time.byThisDevice,
      ...(hasEcgs ? signal.options : {}),
      files: this.files.map(({ kind, file }) => ({ kind, name: file.name, blob: file })),
      previews: this.ecgs.map((file) => ({ name: file.file.name, bpm: file.bpm })),
    };
  }
}

/** The question whether a patient shall be renamed. `stored`: the stored name, for users who may read it. */
export function renameWarning(mrn: string | number, given: string, stored: string | undefined): string {
  const belongs = stored === undefined ? t('upload.belongs_other') : t('upload.belongs_to', { name: stored });
  return t('upload.rename_warning', { mrn, belongs, name: given });
}

async function look(mrn: number, name: string | undefined): Promise<Lookup> {
  try {
    let found: PatientSummary | undefined;
    if (session.may('read')) {
      try {
        found = await getJson<PatientSummary>(`/api/v1/patients/${mrn}`);
      } catch (error) {
        if (error instanceof ApiError && error.status === 404) return { type: 'not-found' };
        throw error;
      }
    }
    const stored = found?.name ? { name: found.name } : {};
    if (name === undefined) return found === undefined ? { type: 'unknown' } : { type: 'found', ...stored };
    // The server compares, so that all clients follow the same rule.
    const check = { method: 'POST', json: { name } } as const;
    const { result } = await getJson<NameCheck>(`/api/v1/patients/${mrn}/name-check`, check);
    return { type: 'found', ...stored, match: result };
  } catch (error) {
    return { type: 'unavailable', reason: errorText(error).replace(/\.$/, '') };
  }
}

/** A folder that was dropped, or a file that was removed meanwhile, cannot be read. */
async function isReadable(file: File): Promise<boolean> {
  try {
    await file.slice(0, 1).arrayBuffer();
    return true;
  } catch {
    return false;
  }
}

/** The form of this page. */
export const form = new UploadForm();

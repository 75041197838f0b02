// The records of one patient: lists that are loaded page by page and kept current by the events of the patient.

import { ApiError, getJson, type PageOf } from '../../api/client';
import { feed } from '../../api/events';
import type {
  Correction,
  DamagedRecord,
  EcgDetail,
  EcgRecord,
  FormerName,
  FormerNames,
  HeartRateRecord,
  ImageRecord,
  PatientUpdated,
} from '../../api/types.gen';
import type { Beat, Mark, Scene, Wave } from '../../canvas/paper';

/** Entries of a page. */
const PAGE = 50;

interface Entry {
  id: string;
  at: string;
}

/** A list that is loaded page by page, newest first. */
export class PagedList<T extends Entry> {
  items = $state.raw<T[]>([]);
  damaged = $state.raw<DamagedRecord[]>([]);
  isComplete = $state(false);
  isLoading = $state(false);
  error = $state.raw<unknown>(undefined);
  private next: string | number | undefined;
  /** The number of refreshes: a response that is overtaken is dropped. */
  private refreshes = 0;
  private readonly abort = new AbortController();

  constructor(
    private readonly path: string,
    private readonly limit = PAGE,
  ) {}

  /** Loads the next page. */
  async more(): Promise<void> {
    if (this.isComplete || this.isLoading) return;
    this.isLoading = true;
    try {
      const page = await this.page(this.next);
      const known = new Set(this.items.map((item) => item.id));
      this.items = [...this.items, ...page.items.filter((item) => !known.has(item.id))];
      this.damaged = [...this.damaged, ...(page.damaged ?? [])];
      this.take(page);
      this.error = undefined;
    } catch (error) {
      if (!this.abort.signal.aborted) this.error = error;
    } finally {
      this.isLoading = false;
    }
  }

  /** Loads the newest entries again. Entries that were loaded before stay, unless more than a page has been added. */
  async refresh(): Promise<void> {
    const refresh = ++this.refreshes;
    try {
      const page = await this.page(undefined);
      if (refresh !== this.refreshes) return;
      const fresh = new Set(page.items.map((item) => item.id));
      const known = new Set(this.items.map((item) => item.id));
      const overlaps = page.items.some((item) => known.has(item.id));
      if (this.items.length === 0 || !overlaps) {
        this.items = page.items;
        this.damaged = page.damaged ?? [];
        this.isComplete = false;
        this.take(page);
      } else {
        const oldest = page.items[page.items.length - 1];
        // What is newer and not on the page does not exist any more.
        const isKept = (item: T): boolean => oldest !== undefined && Date.parse(item.at) <= Date.parse(oldest.at);
        const kept = this.items.filter((item) => !fresh.has(item.id) && isKept(item));
        this.items = [...page.items, ...kept];
      }
      this.error = undefined;
    } catch (error) {
      if (!this.abort.signal.aborted) this.error = error;
    }
  }

  /** Loads as many entries again as are loaded: any of them may have changed or gone. */
  async reload(): Promise<void> {
    const refresh = ++this.refreshes;
    const wanted = Math.max(1, this.items.length);
    const items: T[] = [];
    const damaged: DamagedRecord[] = [];
    try {
      let page: PageOf<T>;
      let after: string | number | undefined;
      do {
        page = await this.page(after);
        if (refresh !== this.refreshes) return;
        items.push(...page.items);
        damaged.push(...(page.damaged ?? []));
        after = page.next ?? undefined;
      } while (after !== undefined && items.length < wanted);
      this.items = items;
      this.damaged = damaged;
      this.take(page);
      this.error = undefined;
    } catch (error) {
      if (!this.abort.signal.aborted) this.error = error;
    }
  }

  /** Replaces an entry that has changed. */
  replace(item: T): void {
    this.items = this.items.map((known) => (known.id === item.id ? item : known));
  }

  stop(): void {
    this.abort.abort();
  }

  private take(page: PageOf<T>): void {
    this.next = page.next ?? undefined;
    this.isComplete = page.next === undefined || page.next === null;
  }

  private page(after: string | number | undefined): Promise<PageOf<T>> {
    const query = new URLSearchParams({ limit: String(this.limit) });
    if (after !== undefined) query.set('after', String(after));
    return getJson<PageOf<T>>(`${this.path}?${query}`, { signal: this.abort.signal });
  }
}

/** Everything about a patient that is not in the summary. */
export class PatientRecords {
  readonly ecgs: PagedList<EcgRecord>;
  readonly rates: PagedList<HeartRateRecord>;
  readonly images: PagedList<ImageRecord>;
  names = $state.raw<FormerName[]>([]);
  corrections = $state.raw<Correction[]>([]);
  private stopFollowing: (() => void) | undefined;

  constructor(private readonly mrn: number) {
    const path = `/api/v1/patients/${mrn}`;
    this.ecgs = new PagedList(`${path}/ecgs`);
    this.rates = new PagedList(`${path}/heart-rates`, 500);
    this.images = new PagedList(`${path}/images`, 24);
  }

  /** Loads all lists and follows the changes of the patient. */
  start(): void {
    this.load();
    this.stopFollowing = feed.follow(this.mrn, (update) => (update === undefined ? this.load() : this.updated(update)));
  }

  stop(): void {
    this.stopFollowing?.();
    for (const list of [this.ecgs, this.rates, this.images]) list.stop();
  }

  private load(): void {
    for (const list of [this.ecgs, this.rates, this.images]) void list.reload();
    void this.loadNames();
    void this.loadCorrections();
  }

  private updated(update: PatientUpdated): void {
    const kinds = new Set(update.changes.map((change) => change.kind));
    if (kinds.has('corrected')) {
      this.load();
      return;
    }
    if (kinds.has('ecg')) void this.ecgs.refresh();
    if (kinds.has('image')) void this.images.refresh();
    if (kinds.has('heart_rate') || kinds.has('ecg_analyzed')) void this.rates.refresh();
    if (kinds.has('name')) {
      void this.loadNames();
      void this.loadCorrections();
    }
    for (const change of update.changes) {
      if (change.kind === 'ecg_analyzed' && change.id) void this.reload(change.id);
    }
  }

  private async reload(id: string): Promise<void> {
    try {
      this.ecgs.replace(await getJson<EcgRecord>(`/api/v1/ecgs/${id}`));
    } catch {
      void this.ecgs.refresh();
    }
  }

  private async loadCorrections(): Promise<void> {
    try {
      this.corrections = await getJson<Correction[]>(`/api/v1/patients/${this.mrn}/corrections`);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
    }
  }

  private async loadNames(): Promise<void> {
    try {
      this.names = (await getJson<FormerNames>(`/api/v1/patients/${this.mrn}/names`)).items;
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
    }
  }
}

/** The samples of a lead, as `GET /api/v1/ecgs/{id}/samples` returns them. */
export interface EcgSamples {
  lead: string;
  sample_rate_hz: number;
  duration_s: number;
  segments: { start_s: number; microvolts: number[] }[];
}

/** Prepares a lead for drawing. `marked` is the text of a part whose quality is not good. */
export function sceneOf(
  samples: EcgSamples,
  detail: EcgDetail | undefined,
  texts: { gap: string; quality: (quality: 'poor' | 'unusable', reason: string | null | undefined) => string },
): Scene {
  const rate = samples.sample_rate_hz;
  const segments = samples.segments.map((segment) => ({
    startS: segment.start_s,
    mv: Float32Array.from(segment.microvolts, (value) => value / 1000),
  }));
  const marks: Mark[] = [];
  let end = 0;
  for (const segment of segments) {
    // A shorter pause is a rounding of times.
    if (segment.startS - end > 1.5 / rate) marks.push({ fromS: end, toS: segment.startS, kind: 'gap', text: texts.gap });
    end = segment.startS + segment.mv.length / rate;
  }
  for (const part of detail?.quality_segments ?? []) {
    if (part.quality === 'good') continue;
    const text = texts.quality(part.quality, part.reason);
    const last = marks[marks.length - 1];
    if (last?.kind === part.quality && last.text === text && part.start_s - last.toS < 0.01) last.toS = part.end_s;
    else marks.push({ fromS: part.start_s, toS: part.end_s, kind: part.quality, text });
  }
  const wave = (one: { on_s: number; end_s: number; confidence: number } | null | undefined): Wave | undefined =>
    one == null ? undefined : { onS: one.on_s, endS: one.end_s, confidence: one.confidence };
  const labels: Record<string, string> = { supraventricular: 'S', ventricular: 'V', paced: 'P' };
  const beats: Beat[] = (detail?.beats ?? []).map((beat) => ({
    timeS: beat.time_s,
    confidence: beat.confidence,
    label: labels[beat.type ?? 'unknown'] ?? '',
    p: wave(beat.p),
    qrs: wave(beat.qrs),
    t: wave(beat.t),
  }));
  return { strip: { rateHz: rate, durationS: samples.duration_s, segments }, beats, marks, pacingS: detail?.pacing_pulses_s ?? [] };
}

// The texts about ECGs, times and findings on the patient page.

import type { EcgAnalysis, EcgFinding, EcgInterval, EcgQuality, EcgRecord, PatientSummary } from '../../api/types.gen';
import { number, t, tn, type Key } from '../../i18n';
import { age, dateTimeZone, timeOrDate } from '../../i18n/format';

/** Times up to this after the current time are not in the future, in milliseconds: clocks differ a little. */
const TOLERANCE_MS = 5_000;
/** The time for which the notice of an unconfirmed renaming is shown. */
const RENAME_NOTICE_MS = 24 * 3_600_000;

/** The time of a value, as far as it is known. */
export type ValueTime =
  | { kind: 'recorded'; at: number }
  /** The time of recording is not known, but it is not later. */
  | { kind: 'received'; at: number }
  /** The time is in the future: a clock was wrong, and the age is not known. */
  | { kind: 'clock_wrong' };

export function timeOf(
  value: { at: string; recorded_at?: string | null | undefined; clock_wrong?: boolean | undefined },
  nowMs: number,
): ValueTime {
  const at = Date.parse(value.at);
  if (value.clock_wrong === true || at > nowMs + TOLERANCE_MS) return { kind: 'clock_wrong' };
  return value.recorded_at ? { kind: 'recorded', at: Date.parse(value.recorded_at) } : { kind: 'received', at };
}

/** The time of a value as a title. It marks the time of receipt and a wrong clock. */
export function when(time: ValueTime, nowMs: number): string {
  if (time.kind === 'clock_wrong') return t('common.clock_wrong');
  const text = timeOrDate(time.at, nowMs);
  return time.kind === 'received' ? t('common.received', { time: text }) : text;
}

/** When a value was recorded, with the time zone. */
export function recordedText(time: ValueTime): string {
  if (time.kind === 'clock_wrong') return t('ecg.time.unknown');
  const at = `${dateTimeZone(time.at)} (${Intl.DateTimeFormat().resolvedOptions().timeZone})`;
  return t(time.kind === 'recorded' ? 'ecg.time.recorded' : 'ecg.time.received', { time: at });
}

/** The age of a value in a sentence. */
export function ageText(time: ValueTime, nowMs: number): string {
  if (time.kind === 'clock_wrong') return t('patient.age.clock_wrong');
  const millis = nowMs - time.at;
  const ago = millis < 1000 ? age(millis) : t('patient.age.ago', { age: age(millis) });
  return time.kind === 'received' ? t('patient.age.received', { ago }) : ago;
}

export function nameOf(patient: PatientSummary | undefined): string {
  return patient?.name ?? t('common.name_none');
}

/** Whole years since a calendar date such as `1950-03-12`, by the date of this device. */
export function yearsSince(text: string, nowMs: number): number {
  const [year = 0, month = 0, day = 0] = text.split('-').map(Number);
  const today = new Date(nowMs);
  const isBefore = today.getMonth() + 1 < month || (today.getMonth() + 1 === month && today.getDate() < day);
  return today.getFullYear() - year - (isBefore ? 1 : 0);
}

/** The notice of a renaming of the last 24 hours that nobody confirmed. */
export function renameNotice(patient: PatientSummary, nowMs: number): string | undefined {
  const change = patient.renamed;
  if (!change || change.confirmed || nowMs - Date.parse(change.at) >= RENAME_NOTICE_MS) return undefined;
  return t('patient.renamed', { time: timeOrDate(Date.parse(change.at), nowMs), name: change.from });
}

const QUALITY: Record<EcgQuality, Key> = {
  good: 'ecg.quality.good',
  poor: 'ecg.quality.poor',
  unusable: 'ecg.quality.unusable',
};

export function qualityText(quality: EcgQuality): string {
  return t(QUALITY[quality]);
}

/** The heart rate of an ECG, or its state if it has none. */
export function ecgState(record: EcgRecord): string {
  if (record.heart_rate) return t('ecg.bpm', { rate: record.heart_rate });
  const states: Record<EcgRecord['status'], Key> = {
    pending: 'ecg.state.pending',
    failed: 'ecg.state.failed',
    analyzed: 'ecg.state.no_rate',
    picture: 'ecg.state.picture',
  };
  return t(states[record.status]);
}

const RHYTHMS: Record<string, Key> = {
  sinus_rhythm: 'ecg.rhythm.sinus_rhythm',
  sinus_bradycardia: 'ecg.rhythm.sinus_bradycardia',
  sinus_tachycardia: 'ecg.rhythm.sinus_tachycardia',
  atrial_fibrillation: 'ecg.rhythm.atrial_fibrillation',
  paced: 'ecg.rhythm.paced',
  bigeminy: 'ecg.rhythm.bigeminy',
  trigeminy: 'ecg.rhythm.trigeminy',
  couplet: 'ecg.rhythm.couplet',
  ventricular_run: 'ecg.rhythm.ventricular_run',
  supraventricular_run: 'ecg.rhythm.supraventricular_run',
  pause: 'ecg.rhythm.pause',
};

/** The name of a rhythm. A code of a later version is shown with `otherwise`. */
export function rhythmName(code: string, otherwise: string): string {
  const key = RHYTHMS[code];
  return key === undefined ? otherwise : t(key);
}

/** The names of all rhythms of a strip, each once. */
export function rhythmLine(analysis: EcgAnalysis): string {
  const names = (analysis.rhythm ?? []).map((finding) => rhythmName(finding.code, finding.message));
  return [...new Set(names)].join(' · ');
}

/** The name of a finding, and where it is if it is not the whole strip. */
export function findingSpan(finding: EcgFinding, durationS: number): string {
  const name = rhythmName(finding.code, finding.message);
  if (finding.start_s <= 0.5 && finding.end_s >= durationS - 0.5) return name;
  return t('ecg.finding_span', { name, from: number(finding.start_s, 1), to: number(finding.end_s, 1) });
}

/** The intervals that were measured, with their names. QTc is that of Fridericia. */
export function namedIntervals(analysis: EcgAnalysis): [string, EcgInterval][] {
  const { pr, qrs, qt, qtc_fridericia: qtc } = analysis.intervals ?? {};
  const named: [string, EcgInterval | null | undefined][] = [
    ['PR', pr],
    ['QRS', qrs],
    ['QT', qt],
    ['QTc', qtc],
  ];
  return named.filter((one): one is [string, EcgInterval] => one[1] != null);
}

/** The numbers of ectopic and paced beats. Empty if there are none. */
export function beatCounts(analysis: EcgAnalysis): string {
  const counts = analysis.beat_types;
  const parts: [number | undefined, Key][] = [
    [counts?.ventricular, 'ecg.beats.ventricular'],
    [counts?.supraventricular, 'ecg.beats.supraventricular'],
    [counts?.paced, 'ecg.beats.paced'],
  ];
  return parts.flatMap(([count, key]) => (count ? [`${number(count)} ${t(key)}`] : [])).join(', ');
}

/** A duration: `9.8 s`, `5 min 20 s`, `24 h 00 min`. */
export function duration(seconds: number): string {
  if (seconds < 59.95) return `${number(seconds, 1)} s`;
  const whole = Math.round(seconds);
  const two = (value: number): string => String(value).padStart(2, '0');
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${two(whole % 60)} s`;
  return `${Math.floor(whole / 3600)} h ${two(Math.floor(whole / 60) % 60)} min`;
}

/** Length, quality and number of beats of a strip. */
export function stripLine(analysis: EcgAnalysis): string {
  return [duration(analysis.duration_s), qualityText(analysis.quality), tn('ecg.beats', analysis.beat_count)].join(' · ');
}

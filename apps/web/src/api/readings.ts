// The latest stored reading of a patient: its time, and what is outside of the limits. The rules are those of the monitor app
// (apps/monitor/src/alarms).

import type { EcgQuality, LatestEcg, LatestHeartRate, PatientSummary } from './types.gen';
import { CLOCK_TOLERANCE_MS } from './clock';

export type Severity = 'high' | 'medium' | 'technical';

/** Age from which a stored heart rate is stale, in milliseconds. */
export const STALE_AFTER_MS = 60_000;

/** Limits of the heart rate in beats per minute. */
export interface Limits {
  low: number;
  high: number;
  criticalLow: number;
  criticalHigh: number;
}

/** The limits for an adult at rest. */
export const DEFAULT_LIMITS: Limits = { low: 50, high: 120, criticalLow: 35, criticalHigh: 150 };

/** The time of a value in milliseconds since 1970. */
export type ValueTime = { kind: 'recorded' | 'received'; at: number } | { kind: 'clock-wrong' };

/** The time of a record. A time in the future means that a clock was wrong: the age is not known then. */
export function valueTime(
  record: { at: string; recorded_at?: string | null; clock_wrong?: boolean },
  nowMs: number,
): ValueTime {
  const at = Date.parse(record.at);
  if (record.clock_wrong === true || at > nowMs + CLOCK_TOLERANCE_MS) return { kind: 'clock-wrong' };
  const recorded = record.recorded_at;
  return recorded ? { kind: 'recorded', at: Date.parse(recorded) } : { kind: 'received', at };
}

/** Whether a value is too old to be shown as current. A value of unknown age is. */
export function isStale(time: ValueTime, nowMs: number): boolean {
  return time.kind === 'clock-wrong' || nowMs - time.at > STALE_AFTER_MS;
}

/** The severity of a heart rate; `undefined` if it is within the limits. */
export function rateSeverity(bpm: number, limits: Limits = DEFAULT_LIMITS): Severity | undefined {
  if (bpm > limits.criticalHigh || bpm < limits.criticalLow) return 'high';
  if (bpm > limits.high || bpm < limits.low) return 'medium';
  return undefined;
}

/** A reading outside of the limits, or one without a rate. */
export type Condition =
  | { severity: 'high' | 'medium'; kind: 'rate'; bpm: number; sign: '<' | '>'; limit: number }
  | { severity: 'technical'; kind: 'unreadable' | 'unusable' | 'no-rate' };

/** Compares a heart rate with the limits. */
export function rateCondition(bpm: number, limits: Limits = DEFAULT_LIMITS): Condition | undefined {
  const severity = rateSeverity(bpm, limits);
  if (severity !== 'high' && severity !== 'medium') return undefined;
  const fast = bpm > limits.high;
  const high = severity === 'high';
  const limit = fast ? (high ? limits.criticalHigh : limits.high) : high ? limits.criticalLow : limits.low;
  return { severity, kind: 'rate', bpm, sign: fast ? '>' : '<', limit };
}

/** Whether an ECG is newer than a heart rate. If one of the times is wrong, the order of uploads decides. */
function isAfter(ecg: LatestEcg, rate: LatestHeartRate): boolean {
  if (ecg.clock_wrong || rate.clock_wrong) return ecg.upload_version > rate.upload_version;
  return Date.parse(ecg.at) > Date.parse(rate.at);
}

function failure(ecg: LatestEcg): Condition | 'pending' | undefined {
  const quality: EcgQuality | null | undefined = ecg.quality;
  if (ecg.status === 'pending') return 'pending';
  if (ecg.status === 'failed') return { severity: 'technical', kind: 'unreadable' };
  if (ecg.status !== 'analyzed') return undefined;
  if (quality === 'unusable') return { severity: 'technical', kind: 'unusable' };
  return ecg.heart_rate ? undefined : { severity: 'technical', kind: 'no-rate' };
}

/** What is wrong with the latest stored reading of a patient. `pending`: it is being analysed, and the condition stays as it was. */
export function storedCondition(
  patient: PatientSummary,
  limits: Limits = DEFAULT_LIMITS,
): Condition | 'pending' | undefined {
  const { latest_heart_rate: rate, latest_ecg: ecg } = patient;
  if (ecg && (!rate || isAfter(ecg, rate))) {
    const failed = failure(ecg);
    if (failed !== undefined) return failed;
  }
  return rate ? rateCondition(rate.bpm, limits) : undefined;
}

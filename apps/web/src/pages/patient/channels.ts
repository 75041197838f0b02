// What the channels of a live stream measure, and the numerics beside their traces.

import type { Channel, Numeric, Vitals } from '../../api/types.gen';

/** What a channel measures. It determines colour, order and scale. */
export type ChannelKind = 'ecg' | 'pleth' | 'resp' | 'pressure' | 'other';

const ORDER: ChannelKind[] = ['ecg', 'pleth', 'resp', 'pressure', 'other'];

/** The kind of a channel by its code of ISO/IEEE 11073-10101. */
export function kindOf(code: string): ChannelKind {
  const has = (part: string): boolean => code.includes(part);
  if (code.startsWith('MDC_ECG_')) return 'ecg';
  if (has('PLETH') || has('PULS_OXIM')) return 'pleth';
  if (has('RESP') || has('TTHOR') || has('CO2') || has('AWAY')) return 'resp';
  if (has('PRESS')) return 'pressure';
  return 'other';
}

/** The CSS variable of the colour of a kind. */
export function colorOf(kind: ChannelKind): string {
  return { ecg: '--ecg', pleth: '--spo2', resp: '--resp', pressure: '--pressure', other: '--text' }[kind];
}

/** Units per millivolt. `undefined` if the unit is not a voltage. */
export function unitsPerMv(unit: string): number | undefined {
  return { mV: 1, uV: 1000, V: 0.001 }[unit];
}

/** Orders channels as they are shown: ECG leads first, lead II before the others. */
export function compareChannels(one: Channel, other: Channel): number {
  const rank = (channel: Channel): number => {
    const kind = kindOf(channel.code);
    return ORDER.indexOf(kind) * 2 + (kind === 'ecg' && channel.label !== 'II' ? 1 : 0);
  };
  return rank(one) - rank(other);
}

/** A row of the column of numerics. */
export interface NumericRow {
  kind: 'heart_rate' | 'spo2' | 'resp' | 'pressure' | 'temperature';
  value: string;
  /** The pulse rate, or the mean pressure. Empty if there is none. */
  second: string;
  unit: string;
  color: string;
  /** When it was measured, in milliseconds since 1970. */
  at: number;
  isStale: boolean;
}

/** Shown instead of a value that does not exist. */
export const NO_VALUE = '–';
/** The age after which a value is stale, in milliseconds. */
const STALE_MS = 10_000;
/** Pressure and temperature are measured from time to time. */
const SELDOM_STALE_MS = 15 * 60_000;
/** The age after which vitals are no longer live, in milliseconds. */
export const VITALS_MS = 5_000;

/**
 * The rows of a patient. A value that the device does not measure has no row. `hasEcg`: the
 * device sends an ECG, so that there is a row of the heart rate even without one. `digits` formats a number. */
export function numerics(
  vitals: Vitals,
  nowMs: number,
  digits: (value: number, digits: number) => string,
  hasEcg = false,
): NumericRow[] {
  const find = (...codes: string[]): Numeric | undefined => vitals.values.find((value) => codes.includes(value.code));
  const rows: NumericRow[] = [];
  const push = (
    kind: NumericRow['kind'],
    numeric: Numeric,
    shown: { value: string; second?: string; unit: string; color: string; limit: number },
  ): void => {
    const at = Date.parse(numeric.time);
    const { value, second = '', unit, color, limit } = shown;
    rows.push({ kind, value, second, unit, color, at, isStale: nowMs - at > limit });
  };
  const whole = (numeric: Numeric): string => digits(numeric.value, 0);
  const rate = find('MDC_ECG_HEART_RATE');
  if (rate !== undefined) {
    // The rate of an ECG that cannot be used is not shown.
    const value = vitals.quality === 'unusable' ? NO_VALUE : whole(rate);
    push('heart_rate', rate, { value, unit: '/min', color: '--ecg', limit: STALE_MS });
  } else if (hasEcg) {
    // The row stays while the electrodes are off.
    const at = Date.parse(vitals.time);
    rows.push({ kind: 'heart_rate', value: NO_VALUE, second: '', unit: '/min', color: '--ecg', at, isStale: false });
  }
  const pulse = find('MDC_PULS_OXIM_PULS_RATE', 'MDC_PULS_RATE');
  const saturation = find('MDC_PULS_OXIM_SAT_O2');
  if (saturation !== undefined) {
    const second = pulse === undefined ? '' : whole(pulse);
    push('spo2', saturation, { value: whole(saturation), second, unit: '%', color: '--spo2', limit: STALE_MS });
  }
  const breaths = find('MDC_RESP_RATE', 'MDC_TTHOR_RESP_RATE', 'MDC_CO2_RESP_RATE');
  if (breaths !== undefined) push('resp', breaths, { value: whole(breaths), unit: '/min', color: '--resp', limit: STALE_MS });
  const pressure = (end: string): Numeric | undefined => find(`MDC_PRESS_BLD_NONINV_${end}`, `MDC_PRESS_BLD_${end}`);
  const [systolic, diastolic, mean] = [pressure('SYS'), pressure('DIA'), pressure('MEAN')];
  if (systolic !== undefined && diastolic !== undefined) {
    const value = `${whole(systolic)}/${whole(diastolic)}`;
    const second = mean === undefined ? '' : `(${whole(mean)})`;
    push('pressure', systolic, { value, second, unit: 'mmHg', color: '--pressure', limit: SELDOM_STALE_MS });
  }
  const temperature = find('MDC_TEMP_BODY', 'MDC_TEMP');
  if (temperature !== undefined) {
    const value = digits(temperature.value, 1);
    push('temperature', temperature, { value, unit: '°C', color: '--text', limit: SELDOM_STALE_MS });
  }
  return rows;
}

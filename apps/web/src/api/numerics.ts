// Measured values of live vitals in the rows that monitors show. The rules are those of the monitor app
// (apps/monitor/src/live/numerics.rs).

import type { Channel, Numeric, Vitals } from './types.gen';

export type NumericKind = 'heart-rate' | 'spo2' | 'resp' | 'pressure' | 'temp';

export interface NumericRow {
  kind: NumericKind;
  /** For example `72` or `120/75`. A dash if there is none. */
  value: string;
  /** Pulse rate or mean pressure. Empty if there is none. */
  second: string;
  unit: string;
  /** When it was measured, server time in milliseconds since 1970. */
  at: number;
  /** Whether it is too old to be live. */
  isStale: boolean;
}

export const NO_VALUE = '–';
/** Age from which a value is stale, in milliseconds. */
const STALE_MS = 10_000;
/** A pressure is measured from time to time. */
const PRESSURE_STALE_MS = 15 * 60_000;
/** Age from which vitals are not live any more, in milliseconds. */
const VITALS_MS = 5_000;

/** Whether vitals are young enough to be shown as live. */
export function isLive(vitals: Vitals | undefined, nowMs: number): vitals is Vitals {
  return vitals !== undefined && nowMs - Date.parse(vitals.time) <= VITALS_MS;
}

/** Heart rate in whole beats per minute; `undefined` without one, or if the ECG cannot be used. */
export function liveHeartRate(vitals: Vitals): number | undefined {
  const rate = vitals.values.find((value) => value.code === 'MDC_ECG_HEART_RATE');
  return rate !== undefined && vitals.quality !== 'unusable' ? Math.round(rate.value) : undefined;
}

/** The rows of a patient. A row that the device does not measure is absent. `digits` formats a number. */
export function numericRows(vitals: Vitals, nowMs: number, digits: (value: number, digits: number) => string): NumericRow[] {
  const find = (...codes: string[]) => vitals.values.find((value) => codes.includes(value.code));
  const whole = (numeric: Numeric) => digits(numeric.value, 0);
  const rows: NumericRow[] = [];
  const push = (kind: NumericKind, numeric: Numeric, value: string, second: string, unit: string, limit: number) => {
    const at = Date.parse(numeric.time);
    rows.push({ kind, value, second, unit, at, isStale: nowMs - at > limit });
  };
  const rate = find('MDC_ECG_HEART_RATE');
  if (rate) push('heart-rate', rate, vitals.quality === 'unusable' ? NO_VALUE : whole(rate), '', 'bpm', STALE_MS);
  const saturation = find('MDC_PULS_OXIM_SAT_O2');
  const pulse = find('MDC_PULS_OXIM_PULS_RATE', 'MDC_PULS_RATE');
  if (saturation) push('spo2', saturation, whole(saturation), pulse ? whole(pulse) : '', '%', STALE_MS);
  const breaths = find('MDC_RESP_RATE', 'MDC_TTHOR_RESP_RATE', 'MDC_CO2_RESP_RATE');
  if (breaths) push('resp', breaths, whole(breaths), '', '/min', STALE_MS);
  const pressure = (end: string) => find(`MDC_PRESS_BLD_NONINV_${end}`, `MDC_PRESS_BLD_${end}`);
  const [systolic, diastolic, mean] = [pressure('SYS'), pressure('DIA'), pressure('MEAN')];
  if (systolic && diastolic) {
    const second = mean ? `(${whole(mean)})` : '';
    push('pressure', systolic, `${whole(systolic)}/${whole(diastolic)}`, second, 'mmHg', PRESSURE_STALE_MS);
  }
  const temperature = find('MDC_TEMP_BODY', 'MDC_TEMP');
  if (temperature) push('temp', temperature, digits(temperature.value, 1), '', '°C', PRESSURE_STALE_MS);
  return rows;
}

export type ChannelKind = 'ecg' | 'pleth' | 'resp' | 'pressure' | 'other';

/** The kind of a channel by its ISO/IEEE 11073-10101 code. */
export function channelKind(channel: Channel): ChannelKind {
  const has = (...parts: string[]) => parts.some((part) => channel.code.includes(part));
  if (channel.code.startsWith('MDC_ECG_')) return 'ecg';
  if (has('PLETH', 'PULS_OXIM')) return 'pleth';
  if (has('RESP', 'TTHOR', 'CO2', 'AWAY')) return 'resp';
  if (has('PRESS')) return 'pressure';
  return 'other';
}

const KINDS: ChannelKind[] = ['ecg', 'pleth', 'resp', 'pressure', 'other'];

/** Order in which channels are shown: ECG leads first, lead II before the others. */
export function channelRank(channel: Channel): number {
  const kind = channelKind(channel);
  return KINDS.indexOf(kind) * 2 + (kind === 'ecg' && channel.label !== 'II' ? 1 : 0);
}

/** The CSS variable of the colour of a channel. */
export function channelColor(kind: ChannelKind): string {
  return { ecg: '--ecg', pleth: '--spo2', resp: '--resp', pressure: '--pressure', other: '--accent' }[kind];
}

// The alarms of the server. The types are those of proto-json/src/alarms.rs.

export type AlarmPriorityName = 'technical' | 'low' | 'medium' | 'high';
export type AlarmState = 'raised' | 'acknowledged' | 'latched' | 'ended';

export const RULES = [
  'asystole',
  'ventricular_run',
  'heart_rate_extreme_low',
  'heart_rate_extreme_high',
  'heart_rate_low',
  'heart_rate_high',
  'pause',
  'atrial_fibrillation',
  'spo2_low',
  'respiration_low',
  'respiration_high',
  'lead_off',
  'unusable_signal',
  'silent_device',
  'no_data',
  'notice',
] as const;
export type AlarmRule = (typeof RULES)[number];

/** An action of a user. */
export interface AlarmAction {
  by: string;
  at: string;
}

export interface Alarm {
  id: string;
  mrn: number;
  rule: AlarmRule;
  priority: AlarmPriorityName;
  state: AlarmState;
  /** Of two states of an alarm, the one with the higher version is newer. */
  version: number;
  /** What raised the alarm, for example `HR 152 > 150`. */
  text: string;
  onset_at: string;
  raised_at: string;
  cleared_at?: string | null;
  ended_at?: string | null;
  acknowledged?: AlarmAction | null;
  audio_paused?: AlarmAction | null;
  audio_paused_until?: string | null;
  reset?: AlarmAction | null;
  ecg_id?: string | null;
}

export interface AlarmPage {
  items: Alarm[];
  next?: string | null;
}

/** Limits and delays. An absent value is taken from the ward, then from the site, then from the built-in defaults. */
export interface AlarmLimits {
  heart_rate_low?: number | null;
  heart_rate_high?: number | null;
  heart_rate_extreme_low?: number | null;
  heart_rate_extreme_high?: number | null;
  heart_rate_delay_s?: number | null;
  asystole_s?: number | null;
  pause_s?: number | null;
  atrial_fibrillation?: boolean | null;
  spo2_low?: number | null;
  respiration_low?: number | null;
  respiration_high?: number | null;
}

export type LimitScope = { of: 'site' } | { of: 'ward'; ward: string } | { of: 'patient'; mrn: number };

export interface StoredLimits {
  scope: LimitScope;
  limits: AlarmLimits;
  /** No value is absent. */
  effective: AlarmLimits;
  version: number;
  changed?: AlarmAction | null;
}

/** A published change. */
export type SystemEvent =
  | { event: 'alarm'; alarm: Alarm; sent_at: string }
  | { event: 'limits'; scope: LimitScope }
  | { event: 'wards' }
  | { event: 'patient'; mrn: number };

// What raised an alarm, in the language of the user. The same as in the apps (apps/monitor/src/messages.rs): the server states it in
// English.

import type { Alarm } from '../api/types.gen';
import { number, t } from '../i18n';

const LEADS = 'Lead off: ';
const ACCESS = 'Emergency access by ';

/** The worst value and the limit, the leads or the person; `undefined` if there is no more to say than the name of the rule. */
export function alarmDetail(alarm: Alarm): string | undefined {
  const { worst, limit, text } = alarm;
  const beyond = (sign: string) =>
    worst == null || limit == null ? undefined : `${number(worst)} ${sign} ${number(limit)}`;
  const rate = (value: string | undefined) => (value === undefined ? undefined : t('overview.alarm.rate', { rate: value }));
  const breaths = (value: string | undefined) => (value === undefined ? undefined : `${t('overview.numeric.resp')} ${value}`);
  switch (alarm.rule) {
    case 'heart_rate_extreme_low':
    case 'heart_rate_low':
      return rate(beyond('<'));
    case 'heart_rate_extreme_high':
    case 'heart_rate_high':
      return rate(beyond('>'));
    case 'respiration_low':
      return breaths(beyond('<'));
    case 'respiration_high':
      return breaths(beyond('>'));
    case 'spo2_low': {
      const value = beyond('<');
      return value === undefined ? undefined : `${t('overview.numeric.spo2')} ${value}`;
    }
    case 'pause':
      return worst == null ? undefined : `${number(worst, 1)} s`;
    case 'lead_off':
      return text.startsWith(LEADS) ? text.slice(LEADS.length) : undefined;
    case 'notice':
      return text.startsWith(ACCESS) ? t('alarms.emergency', { name: text.slice(ACCESS.length) }) : text;
    default:
      return undefined;
  }
}

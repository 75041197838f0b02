// Times and ages for the screen. Ages use server time. Times are local, with 24 hours.

import { locale, t } from './index';

const formats = new Map<string, Intl.DateTimeFormat>();

function format(name: string, options: Intl.DateTimeFormatOptions): Intl.DateTimeFormat {
  const key = `${locale()} ${name}`;
  let known = formats.get(key);
  if (known === undefined) {
    known = new Intl.DateTimeFormat(locale(), { hourCycle: 'h23', ...options });
    formats.set(key, known);
  }
  return known;
}

const SECONDS: Intl.DateTimeFormatOptions = { hour: '2-digit', minute: '2-digit', second: '2-digit' };
const DATE: Intl.DateTimeFormatOptions = { year: 'numeric', month: '2-digit', day: '2-digit' };

/** The time of day of a time in milliseconds since 1970: `14:03:22`. */
export function timeOfDay(ms: number): string {
  return format('time', SECONDS).format(ms);
}

/** Hour and minute: `14:03`. */
export function minuteOfDay(ms: number): string {
  return format('minute', { hour: '2-digit', minute: '2-digit' }).format(ms);
}

/** The date. */
export function date(ms: number): string {
  return format('date', DATE).format(ms);
}

/** A calendar date such as `1950-03-12`. */
export function calendarDate(text: string): string {
  return format('calendar-date', { ...DATE, timeZone: 'UTC' }).format(Date.parse(text));
}

/** Date and time of day. */
export function dateTime(ms: number): string {
  return format('date-time', { ...DATE, ...SECONDS }).format(ms);
}

/** Date and time of day with the time zone. */
export function dateTimeZone(ms: number): string {
  return format('date-time-zone', { ...DATE, ...SECONDS, timeZoneName: 'short' }).format(ms);
}

const isSameDay = (one: number, other: number): boolean => new Date(one).toDateString() === new Date(other).toDateString();

/** The time of day, preceded by the date unless it is today. */
export function timeOrDate(ms: number, nowMs: number): string {
  return isSameDay(ms, nowMs) ? timeOfDay(ms) : dateTime(ms);
}

/** Hour and minute, or the date unless it is today. */
export function minuteOrDate(ms: number, nowMs: number): string {
  return isSameDay(ms, nowMs) ? minuteOfDay(ms) : date(ms);
}

/** An age in milliseconds: `now`, `42 s`, `7 min`, `3 h 05 min`, `2 d`. A negative age is `now`. */
export function age(ms: number): string {
  const seconds = Math.floor(ms / 1000);
  if (seconds < 1) return t('common.now');
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3_600) return `${Math.floor(seconds / 60)} min`;
  const two = (value: number) => String(value).padStart(2, '0');
  if (seconds < 86_400) return `${Math.floor(seconds / 3_600)} h ${two(Math.floor((seconds / 60) % 60))} min`;
  return `${Math.floor(seconds / 86_400)} ${t('common.days')}`;
}

/** A size in bytes: `812 B`, `25 kB`, `1.4 MB`. */
export function bytes(count: number): string {
  const decimal = (value: number, digits: number) =>
    new Intl.NumberFormat(locale(), { minimumFractionDigits: digits, maximumFractionDigits: digits }).format(value);
  if (count < 1_000) return `${count} B`;
  if (count < 999_500) return `${decimal(count / 1e3, 0)} kB`;
  if (count < 999_950_000) return `${decimal(count / 1e6, 1)} MB`;
  return `${decimal(count / 1e9, 2)} GB`;
}

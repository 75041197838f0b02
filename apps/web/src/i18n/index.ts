// Texts in the language of the user.
//
// Keys are sorted and begin with the name of their page. A text has parameters in braces: `{name}`. A text that depends on a number
// has a key for each plural category of its language: `key.one`, `key.other`.

import { Cell } from '../api/cell';
import { ApiError } from '../api/client';
import de from './de.json';
import en from './en.json';

export type Key = keyof typeof en;
export type Language = 'en' | 'de';
/** The beginning of keys with `.one` and `.other`. */
type PluralKey = { [K in Key]: K extends `${infer Base}.other` ? Base : never }[Key];
export type Params = Record<string, string | number>;

const TEXTS: Record<Language, Record<Key, string>> = { en, de };
const STORED = 'bedside.language';

function preferred(): Language {
  const chosen = localStorage.getItem(STORED);
  if (chosen === 'en' || chosen === 'de') return chosen;
  const wanted = navigator.languages.map((language) => language.slice(0, 2));
  return wanted.find((language): language is Language => language === 'en' || language === 'de') ?? 'en';
}

const current = new Cell<Language>(preferred());
document.documentElement.lang = current.value;

/** The language of all texts. */
export const language = {
  get current(): Language {
    return current.value;
  },
  choose(choice: Language): void {
    localStorage.setItem(STORED, choice);
    document.documentElement.lang = choice;
    current.value = choice;
  },
};

/** The locale for numbers and dates: that of the browser if it has the language of the texts. */
export function locale(): string {
  const chosen = current.value;
  return navigator.languages.find((one) => one.startsWith(chosen)) ?? (chosen === 'en' ? 'en-GB' : chosen);
}

function filled(text: string, params: Params): string {
  return text.replace(/\{(\w+)\}/g, (whole, name: string) => String(params[name] ?? whole));
}

/** The text of a key. */
export function t(key: Key, params: Params = {}): string {
  // A code of a later version has no text here.
  return filled(TEXTS[current.value][key] ?? key, params);
}

/** The text of a key for a number, which is also the parameter `count`. */
export function tn(key: PluralKey, count: number, params: Params = {}): string {
  const category = new Intl.PluralRules(current.value).select(count) === 'one' ? 'one' : 'other';
  return t(`${key}.${category}` as Key, { count: number(count), ...params });
}

const ROLES = ['admin', 'auditor', 'device', 'nurse', 'physician', 'technician', 'uploader', 'viewer'] as const;

/** The name of a role. One of a later version is shown as it is. */
export function roleName(role: string): string {
  const known = ROLES.find((one) => one === role);
  return known === undefined ? role : t(`common.role.${known}`);
}

/** A number in the format of the locale. */
export function number(value: number, digits = 0): string {
  return new Intl.NumberFormat(locale(), { minimumFractionDigits: digits, maximumFractionDigits: digits }).format(value);
}

/** What went wrong, as one sentence for the user. */
export function errorText(error: unknown): string {
  if (!(error instanceof ApiError)) return error instanceof Error ? error.message : String(error);
  if (error.isUnreachable) return t('common.error.unreachable');
  if (error.status === 401) return t('common.error.unauthorized');
  if (error.status === 403 && !error.problem?.detail) return t('common.error.forbidden');
  if (error.problem?.detail) return error.problem.detail;
  return t('common.error.status', { status: error.status });
}

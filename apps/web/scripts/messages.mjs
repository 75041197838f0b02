// Checks the message files: sorted keys, the same keys and parameters in all languages, no key that no file uses, and the same
// translations as in the apps: a text that is the same in English is the same in German.

import { readdirSync, readFileSync } from 'node:fs';

const source = new URL('../src/', import.meta.url);
const read = (name) => JSON.parse(readFileSync(new URL(`i18n/${name}.json`, source), 'utf8'));
const languages = { en: read('en'), de: read('de') };
const failures = [];

const keys = Object.keys(languages.en);
const parameters = (text) => [...text.matchAll(/\{(\w+)\}/g)].map((match) => match[1]).sort().join(' ');
for (const [name, texts] of Object.entries(languages)) {
  const own = Object.keys(texts);
  const order = [...own].sort();
  if (own.some((key, index) => key !== order[index])) failures.push(`${name}.json: the keys are not sorted`);
  for (const key of keys) {
    if (!(key in texts)) failures.push(`${name}.json: ${key} is missing`);
    else if (parameters(texts[key]) !== parameters(languages.en[key])) failures.push(`${name}.json: ${key} has other parameters`);
  }
  for (const key of own) if (!(key in languages.en)) failures.push(`${name}.json: ${key} is not in en.json`);
}

const files = readdirSync(source, { recursive: true }).filter((name) => /\.(ts|svelte)$/.test(name));
const text = files.map((name) => readFileSync(new URL(name, source), 'utf8')).join('\n');
// A key can be composed: `patient.rhythm.${code}` uses all keys with this beginning.
const prefixes = [...text.matchAll(/`([a-z_.]+\.)\$\{/g)].map((match) => match[1]);
for (const key of keys) {
  const base = key.replace(/\.(one|other)$/, '');
  const isUsed = [`'${key}'`, `"${key}"`, `'${base}'`].some((quoted) => text.includes(quoted));
  if (!isUsed && !prefixes.some((prefix) => key.startsWith(prefix))) failures.push(`${key} is not used`);
}

// What the page shows before its scripts arrive is not in a script.
const page = readFileSync(new URL('../index.html', import.meta.url), 'utf8');
for (const texts of Object.values(languages)) {
  const text = texts['common.connection.connecting'];
  if (!page.includes(`>${text}</text>`)) failures.push(`index.html does not show "${text}"`);
}

/** Texts that mean something else in the apps, or have less space there. */
const OTHERS = [
  'alarms.filter.ended', 'alarms.filter.open', 'correct.error', 'correct.name', 'ecg.notes', 'ecg.rate', 'patient.heart_rate',
  'patient.stale', 'upload.ready',
];
const unescaped = (quoted) => JSON.parse(`"${quoted}"`);
/**
 * A text with numbered parameters: those of the page have names, those of the apps have numbers or their order. `names`: the names in
 * the order of the English text.
 */
function numbered(text, names = []) {
  let next = 0;
  return text.replace(/\{(\w*)\}/g, (_, name) => `{${name === '' ? next++ : /^\d+$/.test(name) ? name : names.indexOf(name)}}`);
}
const namesOf = (text) => [...new Set([...text.matchAll(/\{(\w+)\}/g)].map(([, name]) => name))];
/** Translations in the apps by their English text; `small`: both in small letters, because a text can begin a line here and not there. */
const [inApps, small] = [new Map(), new Map()];
for (const app of ['ui', 'monitor', 'patient']) {
  const messages = readFileSync(new URL(`../../${app}/lang/de.po`, import.meta.url), 'utf8');
  for (const [, original, translated] of messages.matchAll(/^msgid "(.+)"\nmsgstr "(.+)"$/gm)) {
    const pair = [original, translated].map((quoted) => numbered(unescaped(quoted)));
    for (const [texts, [key, text]] of [[inApps, pair], [small, pair.map((one) => one.toLowerCase())]]) {
      texts.set(key, [...(texts.get(key) ?? []), text]);
    }
  }
}
const shared = { plain: 0, withParameters: 0 };
for (const key of keys) {
  const names = namesOf(languages.en[key]);
  const original = numbered(languages.en[key], names);
  let translated = numbered(languages.de[key], names);
  let known = inApps.get(original);
  if (known === undefined) {
    translated = translated.toLowerCase();
    known = small.get(original.toLowerCase());
  }
  if (known === undefined || OTHERS.includes(key)) continue;
  shared[names.length === 0 ? 'plain' : 'withParameters'] += 1;
  if (!known.includes(translated)) failures.push(`${key} is "${translated}", but "${known.join('" or "')}" in the apps`);
}
if (shared.plain < 100 || shared.withParameters < 50) {
  failures.push(`only ${JSON.stringify(shared)} texts are those of the apps: are the message files of the apps read?`);
}

if (failures.length > 0) {
  console.error(failures.join('\n'));
  process.exit(1);
}

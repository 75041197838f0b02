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

/** Texts that mean something else in the apps, or have less space there. */
const OTHERS = ['alarms.filter.open', 'correct.error', 'correct.name', 'ecg.notes', 'ecg.rate', 'patient.heart_rate'];
const unescaped = (quoted) => JSON.parse(`"${quoted}"`);
const inApps = new Map();
for (const app of ['ui', 'monitor', 'patient']) {
  const messages = readFileSync(new URL(`../../${app}/lang/de.po`, import.meta.url), 'utf8');
  for (const [, original, translated] of messages.matchAll(/^msgid "(.+)"\nmsgstr "(.+)"$/gm)) {
    const known = inApps.get(unescaped(original)) ?? [];
    inApps.set(unescaped(original), [...known, unescaped(translated)]);
  }
}
let shared = 0;
for (const key of keys) {
  const known = inApps.get(languages.en[key]);
  if (known === undefined || OTHERS.includes(key)) continue;
  shared += 1;
  if (!known.includes(languages.de[key])) failures.push(`${key} is "${languages.de[key]}", but "${known.join('" or "')}" in the apps`);
}
if (shared < 100) failures.push(`only ${shared} texts are those of the apps: are the message files of the apps read?`);

if (failures.length > 0) {
  console.error(failures.join('\n'));
  process.exit(1);
}

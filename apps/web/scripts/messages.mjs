// Checks the message files: sorted keys, the same keys and parameters in all languages, and no key that no file uses.

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

if (failures.length > 0) {
  console.error(failures.join('\n'));
  process.exit(1);
}

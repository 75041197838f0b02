// The alarms page: the shared list, actions, limits.

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { System, ecg, go, open, until } from '../harness.mjs';

describe('alarms', () => {
  let system;
  before(async () => (system = await System.start()));
  after(() => system.stop());

  const row = (page, name) => page.locator('li[data-alarm]', { hasText: name });

  test('an alarm appears at two stations, and an acknowledgement at one is shown at both', async () => {
    const first = await open(system, { route: '#/alarms' });
    const second = await open(system, { route: '#/alarms' });
    await first.getByText('No alarms.').waitFor();
    await second.getByText('No alarms.').waitFor();
    await system.upload(1, 'Ann Lee', [['ecg', 'fast.csv', ecg('--bpm', 140)]]);
    for (const page of [first, second]) {
      await row(page, 'Ann Lee').getByText('Heart rate high').waitFor();
      await row(page, 'Ann Lee').getByText('Present').waitFor();
    }
    await row(first, 'Ann Lee').getByRole('button', { name: /^Pause audio/ }).click();
    await row(second, 'Ann Lee').getByText(/Audio paused by local, \d\d:\d\d:\d\d/).waitFor();
    const shownAt = second.evaluate(
      () =>
        new Promise((resolve) => {
          const observer = new MutationObserver(() => {
            if (!/Acknowledged by local, \d\d:\d\d:\d\d/.test(document.querySelector('li[data-alarm]').textContent)) return;
            observer.disconnect();
            resolve(Date.now());
          });
          observer.observe(document.body, { childList: true, subtree: true, characterData: true });
        }),
    );
    await first.evaluate(() =>
      document.addEventListener('click', () => (window.clickedAt = Date.now()), { capture: true, once: true }),
    );
    await row(first, 'Ann Lee').getByRole('button', { name: /^Acknowledge/ }).click();
    const delay = (await shownAt) - (await first.evaluate(() => window.clickedAt));
    assert.ok(delay < 500, `the acknowledgement is shown at the other station after ${delay} ms`);
    await row(first, 'Ann Lee').getByText(/Acknowledged by local, \d\d:\d\d:\d\d/).waitFor();
    assert.deepEqual([...first.problems, ...second.problems], []);
    await first.context().close();
    await second.context().close();
  });

  test('the list is filtered by state, priority and patient', async () => {
    const page = await open(system, { route: '#/alarms' });
    await system.upload(2, 'Bob', [['ecg', 'slow.csv', ecg('--bpm', 30)]]);
    await row(page, 'Bob').waitFor();
    const { items } = await system.json('/api/v1/alarms?mrn=2');
    const priorities = new Set(items.map((alarm) => alarm.priority));
    await page.getByLabel('Patient', { exact: true }).fill('bob');
    assert.equal(await row(page, 'Ann Lee').count(), 0);
    await page.getByLabel('Patient', { exact: true }).fill('');
    await page.getByLabel('Priority').selectOption('high');
    await row(page, 'Ann Lee').waitFor({ state: 'detached' });
    assert.equal((await row(page, 'Bob').count()) > 0, priorities.has('high'));
    await page.getByLabel('Priority').selectOption('');
    // The rate is normal again: the alarm ends.
    await system.upload(1, 'Ann Lee', [['ecg', 'normal.csv', ecg('--bpm', 75)]]);
    await row(page, 'Ann Lee').waitFor({ state: 'detached' });
    await page.getByLabel('Show').selectOption('ended');
    await row(page, 'Ann Lee').getByText(/ended \d\d:\d\d:\d\d/).waitFor();
    assert.equal(await row(page, 'Ann Lee').getByRole('button').count(), 0, 'an ended alarm has no actions');
    await page.context().close();
  });

  test('limits are shown, changed with name and time, and rejected if they cross', async () => {
    const page = await open(system, { route: '#/alarms' });
    const limits = page.getByRole('region', { name: 'Limits' });
    await limits.getByLabel('Limits of').selectOption('patient');
    await limits.getByLabel('Medical record number').fill('1');
    await limits.getByLabel('Heart rate, high', { exact: true }).fill('30');
    await limits.getByRole('button', { name: 'Save limits' }).click();
    await limits.getByRole('alert').waitFor();
    assert.deepEqual((await system.json('/api/v1/patients/1/limits')).limits, {});
    await limits.getByLabel('Heart rate, high', { exact: true }).fill('130');
    await limits.getByRole('button', { name: 'Save limits' }).click();
    await limits.getByText(/Changed by local, \d\d:\d\d:\d\d/).waitFor();
    const stored = await system.json('/api/v1/patients/1/limits');
    assert.deepEqual(stored.limits, { heart_rate_high: 130 });
    // Somebody else changes them while this user does.
    await limits.getByLabel('Heart rate, high', { exact: true }).fill('140');
    const body = JSON.stringify({ limits: { heart_rate_high: 125 }, version: stored.version });
    const other = await system.fetch('/api/v1/patients/1/limits', {
      method: 'PUT', body, headers: { 'content-type': 'application/json' },
    });
    assert.equal(other.status, 200);
    await limits.getByRole('button', { name: 'Save limits' }).click();
    await limits.getByText('The limits were changed by somebody else meanwhile.').waitFor();
    await limits.getByRole('button', { name: 'Cancel' }).click();
    await until('the new limit', async () =>
      (await limits.getByLabel('Heart rate, high', { exact: true }).inputValue()) === '125',
    );
    await go(page, '#/');
    await page.context().close();
  });
});

const SCENARIO = `
title = "Asystole"
interval = "5s"

[[patients]]
name = "Demo Bed 1"
mrn = 900001
rate = 74

[[events]]
patient = "Demo Bed 1"
at = "+20s"
for = "30s"
rhythm = "asystole"
`;

describe('alarms of a demo', () => {
  test('an asystole of a live patient sounds, is shown on all pages, latches, and ends when somebody has acknowledged it', async () => {
    const folder = mkdtempSync(path.join(tmpdir(), 'bedside-scenario-'));
    const file = path.join(folder, 'asystole.toml');
    writeFileSync(file, SCENARIO);
    const system = await System.start('--demo', '--no-open', '--demo-scenario', file);
    try {
      const page = await open(system, { route: '#/alarms' });
      const overview = await open(system);
      await page.keyboard.press('Shift');
      await page.getByText('Alarms sound on this device.').waitFor();
      const tile = overview.locator('a.tile', { hasText: 'Demo Bed 1' });
      await tile.getByTestId('age').getByText('live').waitFor();
      assert.match(await tile.textContent(), /Bed 1/);
      const row = page.locator('li[data-alarm]', { hasText: 'Asystole' });
      await row.waitFor({ timeout: 60_000 });
      await row.getByText('High').waitFor();
      await tile.getByTestId('alarm').getByText('Asystole').waitFor();
      await page.locator('header .badge.high').waitFor();
      await row.getByText('Over, not acknowledged').waitFor({ timeout: 60_000 });
      await row.getByRole('button', { name: /^Acknowledge/ }).click();
      await row.waitFor({ state: 'detached' });
      await tile.getByTestId('alarm').getByText('Asystole').waitFor({ state: 'detached' });
      await page.getByLabel('Show').selectOption('ended');
      await row.getByText(/Acknowledged by local/).waitFor();
      assert.deepEqual([...page.problems, ...overview.problems], []);
      await page.context().close();
      await overview.context().close();
    } finally {
      await system.stop();
      rmSync(folder, { recursive: true, force: true });
    }
  });
});

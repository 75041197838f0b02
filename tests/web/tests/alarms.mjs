// The alarms page: the shared list, actions, limits.

import assert from 'node:assert/strict';
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
    const acted = Date.now();
    await row(first, 'Ann Lee').getByRole('button', { name: /^Acknowledge/ }).click();
    for (const page of [first, second]) {
      await row(page, 'Ann Lee').getByText(/Acknowledged by local, \d\d:\d\d:\d\d/).waitFor();
    }
    assert.ok(Date.now() - acted < 2_000, `${Date.now() - acted} ms`);
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

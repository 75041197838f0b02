// Emergency access to a patient of another ward.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { System, ecg, open, seriousFindings, signIn, until } from '../harness.mjs';

/** How long an access lasts. */
const ACCESS_S = 8;

describe('emergency access', () => {
  let system;
  before(async () => {
    system = await System.startWithUsers([{ name: 'chief', role: 'admin' }], '--emergency-access', `${ACCESS_S}s`);
    const wards = [];
    for (const name of ['North', 'South']) {
      const { id } = await system.call('POST', '/api/v1/wards', { name });
      const { beds } = await system.call('POST', `/api/v1/wards/${id}/beds`, { name: `${name} 1` });
      wards.push({ id, bed: beds[0].id });
    }
    await system.upload(7, 'Ann Lee');
    await system.upload(8, 'Bob', [['ecg', 'strip.csv', ecg('--bpm', 75)]]);
    await system.call('POST', '/api/v1/patients/7/admit', { bed: wards[0].bed });
    await system.call('POST', '/api/v1/patients/8/admit', { bed: wards[1].bed });
    const north = [wards[0].id];
    await system.addUsers([
      { name: 'nora', role: 'nurse', person: 'Nora Nurse', wards: north },
      { name: 'vic', role: 'viewer', wards: north },
    ]);
  });
  after(() => system.stop());

  const tile = (page, name) => page.locator('main a.tile', { hasText: name });

  test('a nurse finds a patient of another ward by number, states a reason, and has access until it ends', async () => {
    const page = await open(system);
    await signIn(page, 'nora');
    await tile(page, 'Ann Lee').waitFor();
    assert.equal(await page.getByText('Bob').count(), 0);
    const other = await page.context().newPage();
    await other.goto('/#/');
    await tile(other, 'Ann Lee').waitFor();
    await page.getByLabel('Find a patient').fill('8');
    await page.getByRole('link', { name: 'MRN 8: another ward…' }).click();
    await page.getByText('No patient with the number 8 is in your wards.').waitFor();
    await page.getByRole('button', { name: 'Emergency access' }).click();
    const dialog = page.getByRole('dialog', { name: 'Emergency access to patient 8?' });
    assert.deepEqual(await seriousFindings(page), []);
    const access = dialog.getByRole('button', { name: 'Access the patient' });
    for (const short of ['', 'help']) {
      await dialog.getByLabel(/^Reason/).fill(short);
      await access.click();
      assert.ok(await dialog.isVisible(), 'an access needs a reason');
    }
    assert.equal(await page.getByText('Bob').count(), 0);
    await dialog.getByLabel(/^Reason/).fill('Resuscitation in South');
    await access.click();
    await page.getByRole('heading', { name: 'Bob' }).waitFor();
    await page.getByText(/Emergency access to a patient of another ward until \d\d:\d\d:\d\d\./).waitFor();
    await page.locator('section.ecg').getByText('25 mm/s · 10 mm/mV').waitFor();
    await tile(other, 'Bob').waitFor();
    // The access is stored, and a notice is raised at the patient.
    const notice = await until('the notice', async () => (await system.json('/api/v1/alarms?mrn=8&priority=low')).items[0]);
    assert.equal(notice.text, 'Emergency access by nora');
    const { items } = await system.json('/api/v1/audit?mrn=8');
    assert.ok(items.some((entry) => entry.client === 'nora' && /break-glass/.test(entry.route)), JSON.stringify(items[0]));
    // It ends by itself, in all tabs.
    await page.getByText('No patient with the number 8 is in your wards.').waitFor();
    await tile(other, 'Bob').waitFor({ state: 'detached' });
    assert.ok(await tile(other, 'Ann Lee').isVisible());
    assert.deepEqual(page.problems, []);
    await page.context().close();
  });

  test('a number that nobody has is named, and the reason is kept', async () => {
    const page = await open(system, { route: '#/patients/99' });
    await signIn(page, 'nora');
    await page.getByRole('button', { name: 'Emergency access' }).click();
    const dialog = page.getByRole('dialog');
    await dialog.getByLabel(/^Reason/).fill('Resuscitation');
    await dialog.getByRole('button', { name: 'Access the patient' }).click();
    await dialog.getByRole('alert').getByText('No patient of another ward has this number.').waitFor();
    assert.equal(await dialog.getByLabel(/^Reason/).inputValue(), 'Resuscitation');
    assert.deepEqual(page.problems, []);
    await page.context().close();
  });

  test('a viewer, and an administrator of all wards, are not offered it', async () => {
    for (const [user, text] of [['vic', 'No patient with the number 99 is in your wards.'], ['chief', 'No patient with the number 99 is stored.']]) {
      const page = await open(system, { route: '#/patients/99' });
      await signIn(page, user);
      await page.getByText(text).waitFor();
      assert.equal(await page.getByRole('button', { name: 'Emergency access' }).count(), 0);
      await page.context().close();
    }
  });
});

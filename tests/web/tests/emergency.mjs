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
      let ward;
      for (const bed of [1, 2]) ward = await system.call('POST', `/api/v1/wards/${id}/beds`, { name: `${name} ${bed}` });
      wards.push({ id, beds: ward.beds.map((bed) => bed.id) });
    }
    await system.upload(7, 'Ann Lee');
    await system.upload(8, 'Bob', [['ecg', 'strip.csv', ecg('--bpm', 75)]]);
    await system.upload(9, 'Cid');
    await system.call('POST', '/api/v1/patients/7/admit', { bed: wards[0].beds[0] });
    await system.call('POST', '/api/v1/patients/8/admit', { bed: wards[1].beds[0] });
    await system.call('POST', '/api/v1/patients/9/admit', { bed: wards[1].beds[1] });
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
    await dialog.getByText(`The access ends by itself after ${ACCESS_S} s.`).waitFor();
    const access = dialog.getByRole('button', { name: 'Access the patient' });
    for (const short of ['', 'help']) {
      await dialog.getByLabel(/^Reason/).fill(short);
      await access.click();
      assert.ok(await dialog.isVisible(), 'an access needs a reason');
    }
    assert.equal(await page.getByText('Bob').count(), 0);
    await dialog.getByLabel(/^Reason/).fill('a  \n\n b');
    await access.click();
    await dialog.getByRole('alert').getByText('The reason needs 5 characters or more.').waitFor();
    await dialog.getByLabel(/^Reason/).fill('Resuscitation\nin South');
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

  test('the alarms of the patient are listed, and everything disappears at the end although requests fail', async () => {
    // Both patients of the other ward have an alarm.
    for (const mrn of [8, 9]) await system.upload(mrn, undefined, [], { heart_rate: 190 });
    const of = (mrn) => async () => (await system.json(`/api/v1/alarms?mrn=${mrn}&priority=high`)).items[0];
    for (const mrn of [8, 9]) await until(`the alarm of ${mrn}`, of(mrn));
    const page = await open(system, { route: '#/patients/8' });
    await signIn(page, 'nora');
    const list = await page.context().newPage();
    await list.goto('/#/alarms');
    await list.locator('.connection.live').waitFor();
    await list.getByLabel('Show').selectOption('all');
    const row = (name) => list.locator('li[data-alarm]', { hasText: name });
    assert.equal(await row('HR 190').count(), 0);
    await page.getByRole('button', { name: 'Emergency access' }).click();
    const dialog = page.getByRole('dialog');
    await dialog.getByLabel(/^Reason/).fill('Resuscitation in South');
    await dialog.getByRole('button', { name: 'Access the patient' }).click();
    await page.getByRole('heading', { name: 'Bob' }).waitFor();
    await row('HR 190').getByText('Bob').waitFor();
    await row('HR 190').getByRole('button', { name: /^Acknowledge/ }).click();
    await row('HR 190').getByText(/Acknowledged by/).waitFor();
    await row('Emergency access by nora').first().waitFor();
    // The access does not open the rest of the ward.
    assert.equal(await row('HR 190').count(), 1);
    assert.equal(await list.getByText('Cid').count(), 0);
    const failing = /\/api\/v1\/(session|patients|alarms|events)(\/|\?|$)/;
    await page.context().route(failing, (route) => route.abort());
    await page.getByRole('heading', { name: 'Bob' }).waitFor({ state: 'detached' });
    await row('HR 190').waitFor({ state: 'detached' });
    for (const tab of [page, list]) assert.equal(await tab.getByText('Bob').count(), 0);
    // What the user may see stays, and is loaded as soon as requests succeed.
    await page.goto('/#/');
    await tile(page, 'Ann Lee').waitFor();
    await page.context().unroute(failing);
    await page.locator('.connection.live').waitFor();
    assert.equal(await tile(page, 'Bob').count(), 0);
    assert.deepEqual([...page.problems], []);
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

// Wards and beds, details of patients, and corrections.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { PNG, System, ecg, go, open, until } from '../harness.mjs';

const ATTACK = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>\n<b>second line</b>';

describe('care', () => {
  let system;
  before(async () => {
    system = await System.start();
    await system.upload(1, 'Ann Lee', [['ecg', 'strip.csv', ecg('--bpm', 75)], ['medical_image', 'scan.png', PNG]]);
    await system.upload(2, 'Bob', [], { heart_rate: '66' });
    await system.upload(3, 'Carl');
  });
  after(() => system.stop());

  /** The heart rate of the ECG of a patient, once it is analysed. */
  async function rateOf(mrn) {
    let record;
    await until('the analysis', async () => {
      [record] = (await system.json(`/api/v1/patients/${mrn}/ecgs`)).items;
      return record.status === 'analyzed';
    });
    return record.heart_rate;
  }

  const tile = (page, name) => page.locator('main a.tile', { hasText: name });

  test('wards and beds are added, and patients are admitted, transferred and discharged', async () => {
    const page = await open(system, { route: '#/wards' });
    const dialog = page.getByRole('dialog');
    await page.getByText('There are no wards. Add one to admit patients.').waitFor();
    const add = async (button, name) => {
      await page.getByRole('button', { name: button, exact: true }).click();
      await dialog.getByLabel('Name').fill(name);
      await dialog.getByRole('button', { name: 'Add', exact: true }).click();
      await dialog.waitFor({ state: 'hidden' });
    };
    await add('Add a ward', 'North');
    await add('Add a ward', 'South');
    for (const bed of ['N1', 'N2', 'N3']) await add('Add a bed: North', bed);
    await add('Add a bed: South', 'S1');
    await page.getByText('3 of 3 beds empty').waitFor();
    for (const [name, bed] of [['Ann Lee', 'North, N2'], ['Bob', 'North, N1']]) {
      await page.getByRole('button', { name: `Admit: ${bed}` }).click();
      await dialog.getByLabel('Find by name or number').fill(name.toLowerCase());
      await dialog.getByLabel('Patient without a bed').selectOption({ index: 0 });
      await dialog.getByRole('button', { name: 'Admit' }).click();
      await page.getByRole('link', { name }).waitFor();
    }
    await page.getByText('1 of 3 beds empty').waitFor();
    assert.ok(await page.getByRole('button', { name: 'Remove: North', exact: true }).isDisabled(), 'a ward with patients stays');
    await page.getByRole('button', { name: 'Transfer: Bob' }).click();
    await dialog.getByLabel('To bed').selectOption({ label: 'S1' });
    await dialog.getByRole('button', { name: 'Transfer' }).click();
    await page.getByText('2 of 3 beds empty').waitFor();
    assert.equal((await system.json('/api/v1/patients/2')).admission.bed_name, 'S1');
    await page.getByRole('button', { name: 'Discharge: Bob' }).click();
    await dialog.getByRole('button', { name: 'Discharge' }).click();
    await page.getByText('1 of 1 beds empty').waitFor();
    assert.deepEqual(page.problems, []);
    await page.context().close();
  });

  test('the overview is ordered by ward and bed, shows empty beds, and remembers the ward', async () => {
    const page = await open(system);
    await tile(page, 'Ann Lee').waitFor();
    await page.getByText('3 patients, 3 empty beds').waitFor();
    const places = () => page.locator('[data-testid=tiles] > li').allTextContents();
    const all = (await places()).map((text) => /N1|N2|N3|S1|Bob|Carl/.exec(text)?.[0]);
    assert.deepEqual(all, ['N1', 'N2', 'N3', 'S1', 'Bob', 'Carl']);
    assert.match((await places())[1], /North · N2/);
    await page.getByLabel(/^Ward/).selectOption({ label: 'North' });
    await page.getByText('1 patient, 2 empty beds').waitFor();
    assert.equal(await tile(page, 'Carl').count(), 0);
    await page.reload();
    await page.getByText('1 patient, 2 empty beds').waitFor();
    // Another station admits and discharges.
    const wards = (await system.json('/api/v1/wards')).items;
    const bed = wards.find(({ name }) => name === 'North').beds.find(({ name }) => name === 'N3').id;
    await system.call('POST', '/api/v1/patients/3/admit', { bed });
    await tile(page, 'Carl').waitFor();
    await page.getByText('2 patients, 1 empty bed').waitFor();
    await system.call('POST', '/api/v1/patients/3/discharge', {});
    await tile(page, 'Carl').waitFor({ state: 'detached' });
    // The arrow keys skip empty beds.
    await page.keyboard.press('ArrowRight');
    assert.equal(await page.evaluate(() => document.activeElement.dataset.mrn), '1');
    await page.getByLabel(/^Ward/).selectOption({ label: 'Without a bed' });
    await tile(page, 'Carl').waitFor();
    await page.getByLabel(/^Ward/).selectOption({ label: 'All wards' });
    await page.getByLabel('Order of tiles').selectOption('name');
    assert.equal(await page.locator('[data-bed]').count(), 0);
    await page.context().close();
  });

  test('alarms are filtered by ward', async () => {
    const page = await open(system, { route: '#/alarms' });
    await system.upload(1, 'Ann Lee', [['ecg', 'fast.csv', ecg('--bpm', 140)]]);
    await system.upload(3, 'Carl', [['ecg', 'fast.csv', ecg('--bpm', 140)]]);
    const row = (name) => page.locator('li[data-alarm]', { hasText: name });
    await row('Ann Lee').waitFor();
    await row('Carl').waitFor();
    await page.getByLabel(/^Ward/).first().selectOption({ label: 'North' });
    await row('Carl').waitFor({ state: 'detached' });
    assert.match(await row('Ann Lee').textContent(), /North · N2/);
    await page.context().close();
  });

  test('details are entered and shown, and notes are text', async () => {
    const page = await open(system, { route: '#/patients/1' });
    const other = await open(system, { route: '#/patients/1' });
    await page.getByRole('button', { name: 'Details' }).click();
    const dialog = page.getByRole('dialog');
    await dialog.getByLabel('Date of birth').fill('1950-03-12');
    await dialog.getByLabel('Sex').selectOption('female');
    await dialog.getByLabel('Notes').fill(ATTACK);
    await dialog.getByRole('button', { name: 'Save' }).click();
    for (const shown of [page, other]) {
      await shown.getByTestId('details').getByText(/North · N2 since .* · born 12\/03\/1950 \(\d+ y\) · female/).waitFor();
      await until('the notes', async () => (await shown.getByTestId('notes').innerText()) === ATTACK);
      assert.equal(await shown.locator('main img[src=x], main script, main b').count(), 0);
      assert.equal(await shown.evaluate(() => window.hacked), undefined);
    }
    // Two people edit at the same time.
    for (const shown of [page, other]) await shown.getByRole('button', { name: 'Details' }).click();
    await dialog.getByLabel('Notes').fill('Allergic to penicillin.');
    await dialog.getByRole('button', { name: 'Save' }).click();
    await page.getByText('Allergic to penicillin.').waitFor();
    await other.getByRole('dialog').getByLabel('Notes').fill('Other');
    await other.getByRole('dialog').getByRole('button', { name: 'Save' }).click();
    await other.getByText('Somebody else has changed the details meanwhile.').waitFor();
    assert.deepEqual([...page.problems, ...other.problems], []);
    await page.context().close();
    await other.context().close();
  });

  test('a record entered in error disappears on all open pages, and its mark can be undone', async () => {
    await system.upload(4, 'Dora', [['ecg', 'one.csv', ecg('--bpm', 60)]]);
    const bpm = await rateOf(4);
    const page = await open(system, { route: '#/patients/4' });
    const other = await open(system, { route: '#/patients/4' });
    const overview = await open(system);
    await overview.locator('a.tile', { hasText: 'Dora' }).getByTestId('rate').getByText(String(bpm)).waitFor();
    await other.getByRole('tabpanel').getByText(`${bpm} bpm`, { exact: true }).waitFor();
    await page.getByRole('tabpanel').getByRole('button', { name: /^Correct: ECG, .* bpm$/ }).click();
    const dialog = page.getByRole('dialog');
    const mark = dialog.getByRole('button', { name: 'Mark as entered in error' });
    await mark.click();
    assert.ok(await dialog.isVisible(), 'a correction needs a reason');
    await dialog.getByLabel('Reason').fill('Wrong\nelectrode');
    await mark.click();
    for (const shown of [page, other]) {
      await shown.getByRole('tabpanel').getByText(`${bpm} bpm`, { exact: true }).waitFor({ state: 'detached' });
      await shown.getByRole('tabpanel').getByText('No ECG yet').waitFor();
    }
    await overview.locator('a.tile', { hasText: 'Dora' }).getByTestId('rate').getByText('–').waitFor();
    await page.getByRole('tab', { name: 'Corrections' }).click();
    await page.getByText('Wrong electrode').waitFor();
    await page.getByRole('tabpanel').getByRole('button', { name: 'Undo' }).click();
    await dialog.getByLabel('Reason').fill('It was right');
    await dialog.getByRole('button', { name: 'Show the record again' }).click();
    await other.getByRole('tabpanel').getByText(`${bpm} bpm`, { exact: true }).waitFor();
    await page.getByText('undone').waitFor();
    assert.deepEqual([...page.problems, ...other.problems, ...overview.problems], []);
    for (const shown of [page, other, overview]) await shown.context().close();
  });

  test('an upload is moved to another patient, and both open pages follow', async () => {
    await system.upload(5, 'Eve', [['ecg', 'two.csv', ecg('--bpm', 88)]]);
    await system.upload(6, 'Finn');
    const bpm = await rateOf(5);
    const page = await open(system, { route: '#/patients/5' });
    const target = await open(system, { route: '#/patients/6' });
    await target.getByRole('tabpanel').getByText('No ECG yet').waitFor();
    await page.getByRole('tabpanel').getByRole('button', { name: /^Correct: ECG, / }).click();
    const dialog = page.getByRole('dialog');
    await dialog.getByLabel(/Belongs to another patient/).check();
    await dialog.getByLabel('Record number of the correct patient').fill('99');
    await dialog.getByText('No patient with this number is known.').waitFor();
    assert.ok(await dialog.getByRole('button', { name: 'Move the upload' }).isDisabled());
    await dialog.getByLabel('Record number of the correct patient').fill('6');
    await dialog.getByText('This number belongs to Finn.').waitFor();
    await dialog.getByLabel('Reason').fill('Wrong patient\n selected');
    await dialog.getByRole('button', { name: 'Move the upload' }).click();
    await target.getByRole('tabpanel').getByText(`${bpm} bpm`, { exact: true }).waitFor();
    await page.getByRole('tabpanel').getByText('No ECG yet').waitFor();
    await page.getByRole('tab', { name: 'Corrections' }).click();
    await page.getByText('Upload moved from 5 to 6').waitFor();
    assert.deepEqual([...page.problems, ...target.problems], []);
    for (const shown of [page, target]) await shown.context().close();
  });

  test('a name is corrected everywhere, and a merged number leads to the other patient', async () => {
    await system.upload(10, 'Geroge');
    const page = await open(system, { route: '#/patients/10' });
    const overview = await open(system);
    await tile(overview, 'Geroge').waitFor();
    await page.getByRole('button', { name: 'Correct name' }).click();
    const dialog = page.getByRole('dialog');
    await dialog.getByLabel('Correct name').fill('George');
    await dialog.getByLabel('Reason').fill('Typing error');
    await dialog.getByRole('button', { name: 'Correct the name' }).click();
    await page.getByRole('heading', { name: 'George' }).waitFor();
    await tile(overview, 'George').waitFor();
    assert.equal(await tile(overview, 'Geroge').count(), 0);
    await system.call('POST', '/api/v1/patients/10/merge', { into: 1, reason: 'The same person' });
    await page.getByText('The record number 10 was merged into 1.').waitFor();
    await tile(overview, 'George').waitFor({ state: 'detached' });
    await page.getByRole('link', { name: 'MRN 1', exact: true }).click();
    await page.getByRole('heading', { name: 'Ann Lee' }).waitFor();
    assert.deepEqual([...page.problems, ...overview.problems], []);
    await go(page, '#/');
    for (const shown of [page, overview]) await shown.context().close();
  });
});

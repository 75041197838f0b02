// The audit and the administration of users.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { PASSWORD, System, open, signIn, until } from '../harness.mjs';

describe('administration', () => {
  let system;
  before(async () => {
    system = await System.startWithUsers([
      { name: 'chief', role: 'admin', person: 'Cora Chief' },
      { name: 'ada', role: 'auditor' },
    ]);
    await system.upload(7, 'Ann Lee');
    await system.upload(8, 'Bob');
    const { id } = await system.call('POST', '/api/v1/wards', { name: 'North' });
    system.ward = id;
  });
  after(() => system.stop());

  test('an auditor filters the audit by patient, client and time, and verifies its chain', async () => {
    const page = await open(system);
    await signIn(page, 'ada');
    await page.getByRole('heading', { name: 'Audit' }).waitFor();
    await page.getByText('/api/v1/patients/{mrn}/uploads').first().waitFor();
    const rows = page.locator('tr[data-entry]');
    const show = page.getByRole('button', { name: 'Show', exact: true });
    await page.getByLabel('Record number').fill('7');
    await show.click();
    await until('the entries of a patient', async () => {
      const cells = await rows.locator('td:nth-child(4)').allTextContents();
      return cells.length > 0 && cells.every((text) => text.trim() === '7');
    });
    await page.getByLabel('Client').fill('nobody');
    await show.click();
    await page.getByText('0 entries').waitFor();
    await page.getByLabel('Record number').fill('');
    await page.getByLabel('Client').fill('test');
    await show.click();
    await until('the entries of a client', async () => {
      const cells = await rows.locator('td:nth-child(3) strong').allTextContents();
      return cells.length > 0 && cells.every((text) => text === 'test');
    });
    await page.getByLabel('To', { exact: true }).fill('2020-01-01T00:00');
    await show.click();
    await page.getByText('0 entries').waitFor();
    await page.getByLabel('To', { exact: true }).fill('');
    await page.getByLabel('From', { exact: true }).fill('2020-01-01T00:00');
    await show.click();
    await rows.first().waitFor();
    await page.getByLabel('Record number').fill('x');
    await show.click();
    await page.getByRole('alert').getByText('The record number must be a whole number').waitFor();
    await page.getByRole('button', { name: 'Verify all entries' }).click();
    await page.getByText(/The chain is intact\. Verified entries: \d+\./).waitFor();
    const head = await page.locator('code').innerText();
    assert.match(head, /^\d+:[0-9a-f]{64}$/);
    await page.getByLabel(/Earlier head/).fill(head.replace(/:./, (text) => (text === ':0' ? ':1' : ':0')));
    await page.getByRole('button', { name: 'Verify all entries' }).click();
    await page.getByText(/The chain is broken: .*written anew/).waitFor();
    assert.deepEqual(page.problems, []);
    await page.context().close();
  });

  test('an administrator adds a user for a ward, who can sign in, and disables, enables and removes the user', async () => {
    const page = await open(system);
    await signIn(page, 'chief');
    await page.getByRole('link', { name: 'Admin', exact: true }).click();
    const dialog = page.getByRole('dialog');
    await page.getByRole('button', { name: 'Add a user' }).click();
    await dialog.getByLabel('Name for login').fill('nora');
    await dialog.getByLabel('Name of the person').fill('Nora Nurse');
    await dialog.getByLabel('Role').selectOption('nurse');
    await dialog.getByLabel(/These wards/).check();
    await dialog.getByLabel('North').check();
    await dialog.getByLabel('Password', { exact: true }).fill(PASSWORD);
    await dialog.getByRole('button', { name: 'Add a user' }).click();
    const row = page.locator('[data-user=nora]');
    await row.getByText('North').waitFor();
    const { items } = await system.json('/api/v1/users');
    const stored = items.find(({ name }) => name === 'nora');
    assert.deepEqual([stored.role, stored.wards, stored.display_name], ['nurse', [system.ward], 'Nora Nurse']);

    const nurse = await open(system);
    await signIn(nurse, 'nora');
    await nurse.getByRole('button', { name: 'User: Nora Nurse, Nurse' }).waitFor();
    await row.getByRole('button', { name: 'Edit nora' }).click();
    await dialog.getByLabel('Role').selectOption('physician');
    await dialog.getByRole('button', { name: 'Save' }).click();
    await row.getByText('Physician').waitFor();
    await nurse.getByText('The session has ended.').waitFor();
    await signIn(nurse, 'nora');
    await nurse.getByRole('button', { name: 'User: Nora Nurse, Physician' }).waitFor();

    await row.getByRole('button', { name: 'Set the password of nora' }).click();
    await dialog.getByLabel('Password', { exact: true }).fill('another good password');
    await dialog.getByRole('button', { name: 'Set password' }).click();
    await nurse.getByText('The session has ended.').waitFor();
    await signIn(nurse, 'nora', 'another good password');
    await nurse.getByRole('button', { name: /^User: Nora/ }).waitFor();

    await row.getByRole('button', { name: 'Disable nora' }).click();
    await dialog.getByRole('button', { name: 'Disable' }).click();
    await row.getByText('disabled').waitFor();
    await nurse.getByText('The session has ended.').waitFor();
    await row.getByRole('button', { name: 'Enable nora' }).click();
    await dialog.getByRole('button', { name: 'Enable' }).click();
    await row.getByRole('button', { name: 'Remove nora' }).click();
    await dialog.getByRole('button', { name: 'Remove' }).click();
    await row.waitFor({ state: 'detached' });
    // The own account cannot be disabled or removed here.
    assert.equal(await page.locator('[data-user=chief]').getByRole('button', { name: 'Remove chief' }).count(), 0);
    assert.deepEqual([...page.problems, ...nurse.problems], []);
    await nurse.context().close();
    await page.context().close();
  });

  test('what the server rejects is shown in the dialog', async () => {
    const page = await open(system, { route: '#/admin' });
    await signIn(page, 'chief');
    await page.getByRole('button', { name: 'Add a user' }).click();
    const dialog = page.getByRole('dialog');
    await dialog.getByLabel('Name for login').fill('ada');
    await dialog.getByLabel('Password', { exact: true }).fill(PASSWORD);
    await dialog.getByRole('button', { name: 'Add a user' }).click();
    await dialog.getByRole('alert').waitFor();
    assert.ok(await dialog.isVisible());
    await page.keyboard.press('Escape');
    await page.getByText('There are none.').waitFor();
    await page.context().close();
  });
});

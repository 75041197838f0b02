// Updates: what is shown is current, or says that it is not.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { System, ecg, go, network, open, seenAt } from '../harness.mjs';

/** Time within which a lost connection is visible, in milliseconds. */
const VISIBLE_MS = 2_000;
const FROZEN_MS = 60_000;

describe('updates', () => {
  let system;
  before(async () => {
    system = await System.start();
    await system.upload(1, 'Ann Lee', [['ecg', 'strip.csv', ecg('--bpm', 75)]]);
  });
  after(() => system.stop());

  /** The tiles of a patient on the overview. */
  const tiles = (page, name) => page.locator('main a.tile', { hasText: name });

  test('a new patient appears without a reload, once', async () => {
    const page = await open(system);
    await tiles(page, 'Ann Lee').first().waitFor();
    await system.upload(2, 'Bob');
    await tiles(page, 'Bob').first().waitFor();
    assert.equal(await tiles(page, 'Bob').count(), 1);
    await page.context().close();
  });

  test('a killed gateway is visible within two seconds, and nothing is missed or duplicated afterwards', async () => {
    const page = await open(system);
    await tiles(page, 'Ann Lee').first().waitFor();
    await page.getByText('connected').first().waitFor();
    const killed = Date.now();
    await system.kill();
    await page.locator('.connection.offline').waitFor();
    const visible = Date.now() - killed;
    assert.ok(visible <= VISIBLE_MS, `visible after ${visible} ms`);
    await page.getByText(/Connection lost since \d\d:\d\d:\d\d/).waitFor();
    await system.restart();
    await system.upload(3, 'Carl');
    await system.upload(1, 'Ann Lee-Moss', [], { rename: 'true' });
    await page.locator('.connection.live').waitFor();
    await tiles(page, 'Carl').first().waitFor();
    await tiles(page, 'Ann Lee-Moss').first().waitFor();
    await system.upload(4, 'Dora');
    await tiles(page, 'Dora').first().waitFor();
    for (const name of ['Ann Lee-Moss', 'Bob', 'Carl', 'Dora']) assert.equal(await tiles(page, name).count(), 1, name);
    assert.deepEqual(page.problems, []);
    await page.context().close();
  });

  test('a cut network is visible within two seconds and ends by itself', async () => {
    const cable = await network(system);
    const page = await open(cable);
    await page.locator('.connection.live').waitFor();
    const seen = seenAt(page, '.connection.offline');
    const cut = Date.now();
    cable.cut();
    // The gateway breaks every silence after 750 ms; two missed messages are the sign.
    const visible = (await seen) - cut;
    assert.ok(visible <= VISIBLE_MS, `visible after ${visible} ms`);
    await system.upload(5, 'Eve');
    cable.heal();
    await tiles(page, 'Eve').first().waitFor();
    await page.locator('.connection.live').waitFor();
    await page.context().close();
    cable.close();
  });

  test('a page that was frozen in the background for a minute says so within two seconds and loads what it missed', async () => {
    const page = await open(system);
    await page.locator('.connection.live').waitFor();
    const visibility = (state) =>
      page.evaluate((value) => {
        Object.defineProperty(document, 'visibilityState', { value, configurable: true });
        Object.defineProperty(document, 'hidden', { value: value === 'hidden', configurable: true });
        document.dispatchEvent(new Event('visibilitychange'));
      }, state);
    await visibility('hidden');
    const protocol = await page.context().newCDPSession(page);
    await protocol.send('Page.setWebLifecycleState', { state: 'frozen' });
    await system.upload(6, 'Finn');
    await system.upload(1, 'Ann Lee', [], { rename: 'true' });
    await new Promise((resolve) => setTimeout(resolve, FROZEN_MS));
    const active = Date.now();
    await protocol.send('Page.setWebLifecycleState', { state: 'active' });
    await visibility('visible');
    await page.getByTestId('hidden-bar').waitFor();
    const visible = Date.now() - active;
    assert.ok(visible <= VISIBLE_MS, `visible after ${visible} ms`);
    await page.getByText(/This page was in the background from \d\d:\d\d:\d\d to \d\d:\d\d:\d\d\. It has loaded what it missed\./).waitFor();
    await tiles(page, 'Finn').first().waitFor();
    await tiles(page, 'Ann Lee').filter({ hasNotText: 'Moss' }).waitFor();
    for (const name of ['Finn', 'Ann Lee']) assert.equal(await tiles(page, name).count(), 1, name);
    assert.deepEqual(page.problems, []);
    await page.context().close();
  });

  test('a server of an earlier version, which has no alarms, is named by the alarms page', async () => {
    const page = await open(system, { route: '#/about' });
    const problem = { type: 'urn:bedside:problem:not-found', title: 'Not found', status: 404 };
    const missing = { status: 404, contentType: 'application/problem+json', body: JSON.stringify(problem) };
    for (const route of ['**/api/v1/alarms?*', '**/api/v1/limits']) await page.route(route, (request) => request.fulfill(missing));
    await page.reload();
    await go(page, '#/alarms');
    await page.getByText('This server has no shared alarms. They are part of a later version.').waitFor();
    await page.getByRole('heading', { name: 'Limits' }).waitFor({ state: 'detached' });
    assert.deepEqual(page.problems, []);
    await page.context().close();
  });

  test('alarms are marked as silent until the first interaction', async () => {
    const page = await open(system);
    await page.getByRole('button', { name: 'Alarms silent' }).waitFor();
    await page.keyboard.press('Shift');
    await page.keyboard.press('a');
    await page.getByRole('button', { name: 'Alarms silent' }).waitFor({ state: 'detached' });
    await go(page, '#/alarms');
    await page.getByText('Alarms sound on this device.').waitFor();
    await page.getByRole('button', { name: 'Test sound' }).click();
    assert.deepEqual(page.problems, []);
    await page.context().close();
  });
});

// The main tests with gateway, ingest, query, ecg-worker and alarms as processes, with nats-server and a server of the MongoDB protocol.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { after, before, describe, test } from 'node:test';
import { BEDSIDE, System, ecg, network, open, seenAt, signIn, until } from '../harness.mjs';

/** Time within which a lost connection is visible, in milliseconds. */
const VISIBLE_MS = 2_000;
/** A restarted broker is found by all services within this time, in milliseconds. */
const BROKER_MS = 30_000;

describe('services', () => {
  let system;
  before(async () => {
    system = await System.startServices([{ name: 'nora', role: 'nurse', person: 'Nora Nurse' }]);
    await system.upload(1, 'Ann Lee', [['ecg', 'strip.csv', ecg('--bpm', 75)]]);
  });
  after(() => system?.stop());

  const tile = (page, name) => page.locator('main a.tile', { hasText: name });

  /** Opens the page as a nurse. */
  async function opened(at = system, options = {}) {
    const page = await open(at, options);
    await signIn(page, 'nora');
    await page.locator('.connection.live').waitFor();
    return page;
  }

  test('a patient is uploaded on the page, analysed by the worker, and appears once at another station', async () => {
    const overview = await opened();
    await tile(overview, 'Ann Lee').getByTestId('rate').getByText('75').waitFor();
    const page = await opened(system, { route: '#/upload' });
    await page.getByLabel('Medical record number').fill('2');
    await page.getByLabel('Name', { exact: true }).fill('Bob');
    const strip = { name: 'strip.csv', mimeType: 'text/csv', buffer: ecg('--bpm', 90) };
    await page.locator('input[data-kind=ecg]').setInputFiles([strip]);
    await page.getByRole('button', { name: /strip\.csv.*90 bpm, good quality/ }).waitFor();
    await page.locator('form').getByRole('button', { name: 'Upload', exact: true }).click();
    await page.getByRole('dialog').getByRole('button', { name: 'Upload', exact: true }).click();
    await page.getByText('New patient 2 registered.').waitFor();
    await page.getByText(/The server finds 90 bpm in strip.csv, as the preview did/).waitFor();
    await tile(overview, 'Bob').getByTestId('rate').getByText('90').waitFor();
    assert.equal(await tile(overview, 'Bob').count(), 1);
    await tile(overview, 'Bob').click();
    await overview.locator('section.ecg').getByText('25 mm/s · 10 mm/mV').waitFor();
    assert.deepEqual([...page.problems, ...overview.problems], []);
    await page.context().close();
    await overview.context().close();
  });

  test('an alarm is raised at two stations, and an acknowledgement at one is shown at both', async () => {
    const [first, second] = [await opened(system, { route: '#/alarms' }), await opened(system, { route: '#/alarms' })];
    const row = (page) => page.locator('li[data-alarm]', { hasText: 'Carl' });
    await system.upload(3, 'Carl', [['ecg', 'fast.csv', ecg('--bpm', 140)]]);
    for (const page of [first, second]) await row(page).getByText('Heart rate high').waitFor();
    await row(first).getByRole('button', { name: /^Acknowledge/ }).click();
    for (const page of [first, second]) await row(page).getByText(/Acknowledged by Nora Nurse|Acknowledged by nora/).waitFor();
    assert.deepEqual([...first.problems, ...second.problems], []);
    await first.context().close();
    await second.context().close();
  });

  test('an emergency access is used at once, although other requests reach a gateway that does not know it yet', async () => {
    const wards = [];
    for (const name of ['North', 'South']) {
      const { id } = await system.call('POST', '/api/v1/wards', { name });
      wards.push(await system.call('POST', `/api/v1/wards/${id}/beds`, { name: 'Bed 1' }));
    }
    await system.upload(20, 'Ivo');
    await system.call('POST', '/api/v1/patients/20/admit', { bed: wards[1].beds[0].id });
    await system.addUsers([{ name: 'olga', role: 'nurse', wards: [wards[0].id] }]);
    const other = await system.startGateway();
    const page = await open(system, { route: '#/patients/20' });
    await signIn(page, 'olga');
    await page.locator('.connection.live').waitFor();
    // Reads go to the other gateway. It has checked the session just before the access.
    let reads = 0;
    await page.route(/\/api\/v1\/(session|patients)(\?|$)/, async (route) => {
      const response = await route.fetch({ url: route.request().url().replace(system.url, other) });
      assert.equal(response.status(), 200);
      reads += 1;
      await route.fulfill({ response });
    });
    await page.evaluate(() => fetch('/api/v1/session'));
    await page.getByRole('button', { name: 'Emergency access' }).click();
    const dialog = page.getByRole('dialog');
    await dialog.getByLabel(/^Reason/).fill('Resuscitation in South');
    await dialog.getByRole('button', { name: 'Access the patient' }).click();
    await page.getByRole('heading', { name: 'Ivo' }).waitFor();
    await page.getByText(/Emergency access to a patient of another ward until/).waitFor();
    assert.ok(reads > 1, `${reads} requests to the other gateway`);
    assert.deepEqual(page.problems, []);
    await page.context().close();
  });

  test('a live trace moves, stops within two seconds of a network cut, and moves again', async () => {
    const args = ['stream', '--gateway', system.gateway, '--token', system.token, '--mrn', '6', '--name', 'Eve Fox', '--synthetic'];
    const device = spawn(BEDSIDE, [...args, '--log', 'error'], { stdio: 'ignore' });
    const cable = await network(system);
    try {
      await until('the patient', async () => (await system.fetch('/api/v1/patients/6')).status === 200);
      const page = await opened({ url: cable.url });
      await tile(page, 'Eve Fox').and(page.locator('[data-signal=live]')).waitFor();
      await tile(page, 'Eve Fox').getByTestId('age').getByText('live').waitFor();
      const stopped = ['a.tile[data-signal=stopped]', '.connection.offline'].map((shown) => seenAt(page, shown));
      const cut = Date.now();
      cable.cut();
      for (const seen of stopped) {
        const delay = (await seen) - cut;
        assert.ok(delay <= VISIBLE_MS, `visible ${delay} ms after the network was cut`);
      }
      cable.heal();
      await page.locator('.connection.live').waitFor();
      await page.locator('a.tile[data-signal=live]').waitFor();
      assert.deepEqual(page.problems, []);
      await page.context().close();
    } finally {
      device.kill('SIGKILL');
      cable.close();
    }
  });

  test('a killed gateway is visible within two seconds, and nothing is missed or duplicated afterwards', async () => {
    const page = await opened();
    await tile(page, 'Ann Lee').waitFor();
    const seen = seenAt(page, '.connection.offline');
    const killed = Date.now();
    await system.kill();
    const delay = (await seen) - killed;
    assert.ok(delay <= VISIBLE_MS, `visible after ${delay} ms`);
    await system.restart();
    await until('the upload', () => system.upload(7, 'Finn').catch(() => undefined));
    await page.locator('.connection.live').waitFor();
    await tile(page, 'Finn').waitFor();
    await system.upload(8, 'Gus');
    await tile(page, 'Gus').waitFor();
    for (const name of ['Ann Lee', 'Finn', 'Gus']) assert.equal(await tile(page, name).count(), 1, name);
    assert.deepEqual(page.problems, []);
    await page.context().close();
  });

  test('a killed broker is visible within two seconds, patients stay readable, and nothing is missed afterwards', async () => {
    const page = await opened();
    await tile(page, 'Ann Lee').waitFor();
    const port = Number(/port: (\d+)|nats:\/\/127\.0\.0\.1:(\d+)/.exec(system.args.join(' '))[2]);
    const seen = seenAt(page, '[data-testid=connection-bar]');
    const killed = Date.now();
    await system.services.nats.kill();
    const delay = (await seen) - killed;
    assert.ok(delay <= VISIBLE_MS, `visible after ${delay} ms`);
    await page.locator('.connection.polling').waitFor();
    await page.reload();
    await tile(page, 'Ann Lee').waitFor();
    await system.startNats(port);
    await page.locator('.connection.live').waitFor({ timeout: BROKER_MS });
    await until('the upload', () => system.upload(9, 'Hal').catch(() => undefined), BROKER_MS);
    await tile(page, 'Hal').waitFor();
    assert.equal(await tile(page, 'Hal').count(), 1);
    assert.deepEqual(page.problems, []);
    await page.context().close();
  });
});

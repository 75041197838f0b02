// The upload page: everything that the patient app does.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { PNG, System, ecg, go, open, outboxEntries, until } from '../harness.mjs';

const csv = (name, ...args) => ({ name, mimeType: 'text/csv', buffer: ecg(...args) });
const png = (name) => ({ name, mimeType: 'image/png', buffer: PNG });

const button = (page, name) => page.getByRole('button', { name, exact: true });
const addEcgs = (page, ...files) => page.locator('input[data-kind=ecg]').setInputFiles(files);
const addImages = (page, ...files) => page.locator('input[data-kind=medical_image]').setInputFiles(files);

async function fill(page, mrn, name) {
  await page.getByLabel('Medical record number').fill(String(mrn));
  if (name !== undefined) await page.getByLabel('Name', { exact: true }).fill(name);
}

/** Confirms the dialog that asks before an upload. */
async function send(page, label = 'Upload') {
  await page.locator('form').getByRole('button', { name: 'Upload', exact: true }).click();
  await page.getByRole('dialog').getByRole('button', { name: label, exact: true }).click();
}

const message = (page, text) => page.getByText(text).first().waitFor();

describe('upload', () => {
  let system;
  before(async () => (system = await System.start()));
  after(() => system.stop());

  test('several files are previewed, sent and listed in the receipt', async () => {
    const page = await open(system, { route: '#/upload' });
    await fill(page, 1, 'Ann Lee');
    await message(page, 'New patient: no patient has this number.');
    await addEcgs(page, csv('strip.csv', '--bpm', 75), csv('fast.csv', '--bpm', 120));
    await addImages(page, png('scan.png'));
    await page.getByRole('button', { name: /strip\.csv.*75 bpm, good quality/ }).click();
    const rate = Number(await page.locator('.rate .value').textContent());
    assert.ok(Math.abs(rate - 75) <= 2, `${rate} bpm`);
    const picture = page.getByRole('img', { name: 'Picture of strip.csv' });
    assert.ok((await picture.evaluate((img) => img.decode().then(() => img.naturalWidth))) > 300);
    await message(page, 'Ready to upload: 1 medical image and 2 ECGs');
    await send(page);
    await message(page, 'New patient 1 registered.');
    const receipt = await page.locator('.receipt li').allTextContents();
    assert.deepEqual(receipt, ['Name: Ann Lee', 'ECG: strip.csv', 'ECG: fast.csv', 'Medical image: scan.png']);
    await page.getByText(/The server finds 75 bpm in strip.csv, as the preview did/).waitFor();
    await page.getByText(/The server finds \d+ bpm in fast.csv, as the preview did/).waitFor();
    assert.equal((await system.json('/api/v1/patients/1/ecgs')).items.length, 2);
    assert.equal((await system.json('/api/v1/patients/1/images')).items[0].file.file_name, 'scan.png');
    // The form is empty, and nothing of the patient is left in the browser.
    assert.equal(await page.getByLabel('Medical record number').inputValue(), '');
    assert.deepEqual(await outboxEntries(page), []);
    assert.deepEqual(page.problems, []);
    await page.context().close();
  });

  test('a preview stores nothing, and a file that is no ECG is rejected by name', async () => {
    const patients = await system.json('/api/v1/patients');
    const page = await open(system, { route: '#/upload' });
    await addEcgs(page, csv('strip.csv', '--bpm', 60));
    await page.getByRole('button', { name: /strip\.csv.*60 bpm/ }).waitFor();
    await addEcgs(page, { name: 'list.csv', mimeType: 'text/csv', buffer: Buffer.from('bread\nmilk\n') });
    await page.getByText(/list\.csv was rejected\. /).waitFor();
    await addImages(page, { name: 'text.png', mimeType: 'image/png', buffer: Buffer.from('no picture') });
    await message(page, 'text.png was rejected. It is not a PNG or JPEG picture.');
    const bomb = Buffer.concat([PNG.subarray(0, 16), Buffer.from([0, 0, 0x9c, 0x40, 0, 0, 0x9c, 0x40]), PNG.subarray(24)]);
    await addImages(page, { name: 'bomb.png', mimeType: 'image/png', buffer: bomb });
    await message(page, 'bomb.png was rejected. The image has 40,000 × 40,000 pixels');
    assert.equal(await page.locator('.files li').count(), 1);
    assert.deepEqual(await system.json('/api/v1/patients'), patients);
    await page.context().close();
  });

  test('an ECG without times needs the sampling rate', async () => {
    const page = await open(system, { route: '#/upload' });
    const bare = ecg('--bpm', 60).toString().split('\n').map((line) => line.slice(line.indexOf(',') + 1)).join('\n');
    await fill(page, 2);
    await addEcgs(page, { name: 'bare.csv', mimeType: 'text/csv', buffer: Buffer.from(bare) });
    await page.getByRole('button', { name: /bare\.csv.*needs the sampling rate or the lead/ }).waitFor();
    assert.ok(await page.locator('form').getByRole('button', { name: 'Upload', exact: true }).isDisabled());
    await page.getByLabel('Rate (Hz)').fill('0');
    await message(page, 'Enter the sampling rate as samples per second, from 1 to 100,000.');
    await page.getByLabel('Rate (Hz)').fill('250');
    await page.getByRole('button', { name: /bare\.csv.* quality/ }).waitFor();
    await send(page);
    await message(page, 'New patient 2 registered.');
    const ecgs = await until('the analysis', async () => {
      const { items } = await system.json('/api/v1/patients/2/ecgs');
      return items[0].status === 'analyzed' && items;
    });
    assert.equal(ecgs[0].analysis.sample_rate_hz, 250);
    await page.context().close();
  });

  test('the recording time comes from the file, else from the selection, else from the user', async () => {
    const page = await open(system, { route: '#/upload' });
    await fill(page, 3);
    const strip = ecg('--bpm', 60);
    const dated = Buffer.concat([Buffer.from('# start: 2024-02-29 12:00:05\n'), strip]);
    await addEcgs(page, { name: 'dated.csv', mimeType: 'text/csv', buffer: dated });
    await message(page, 'Local time, as the file states.');
    assert.equal(await page.getByLabel('Recorded at').inputValue(), '2024-02-29T12:00:05');
    await addEcgs(page, { name: 'undated.csv', mimeType: 'text/csv', buffer: strip });
    await page.locator('#recorded-hint').getByText('The selected ECGs were recorded at different times').waitFor();
    await page.getByRole('button', { name: 'Remove undated.csv' }).click();
    await message(page, 'Local time, as the file states.');
    await page.getByLabel('Recorded at').fill('2999-01-01T00:00:00');
    await page.locator('#recorded-hint').getByText('The recording time is in the future.').waitFor();
    await page.getByLabel('Recorded at').fill('2024-03-01T08:30:15');
    await message(page, 'Local time, as entered.');
    await send(page);
    await message(page, 'New patient 3 registered.');
    const { items } = await system.json('/api/v1/patients/3/ecgs');
    assert.equal(items[0].recorded_at, '2024-03-01T07:30:15.000Z', 'local time of the browser');
    await page.context().close();
  });

  test('another name is shown, confirmed and replaced', async () => {
    await system.upload(4, 'Ann Lee');
    const page = await open(system, { route: '#/upload/4' });
    await message(page, 'Known as Ann Lee.');
    await page.getByLabel('Name', { exact: true }).fill('Bob');
    await message(page, 'This number belongs to Ann Lee.');
    await page.locator('form').getByRole('button', { name: 'Upload', exact: true }).click();
    const dialog = page.getByRole('dialog');
    await dialog.getByText('Record number 4 belongs to “Ann Lee”. This upload would rename the patient to “Bob”.').waitFor();
    await dialog.getByRole('button', { name: 'Cancel' }).click();
    assert.equal((await system.json('/api/v1/patients/4')).name, 'Ann Lee');
    await send(page, 'Rename and upload');
    await message(page, 'Patient 4 updated.');
    assert.equal((await system.json('/api/v1/patients/4')).name, 'Bob');
    await page.context().close();
  });

  test('a name that changed after the check opens the rename dialog', async () => {
    await system.upload(5, 'Ann Lee');
    const page = await open(system, { route: '#/upload/5' });
    await page.getByLabel('Name', { exact: true }).fill('Ann Lee');
    await page.locator('form').getByRole('button', { name: 'Upload', exact: true }).click();
    const dialog = page.getByRole('dialog');
    await button(dialog, 'Upload').waitFor();
    await system.upload(5, 'Carl', [], { rename: 'true' });
    await button(dialog, 'Upload').click();
    await dialog.getByText('Record number 5 belongs to “Carl”.').waitFor();
    await dialog.getByRole('button', { name: 'Cancel' }).click();
    await message(page, 'Upload cancelled. Nothing was cleared.');
    assert.equal((await system.json('/api/v1/patients/5')).name, 'Carl');
    assert.equal(await page.getByLabel('Name', { exact: true }).inputValue(), 'Ann Lee');
    await send(page, 'Rename and upload');
    await message(page, 'Patient 5 updated.');
    assert.equal((await system.json('/api/v1/patients/5')).name, 'Ann Lee');
    await page.context().close();
  });

  test('files can be dropped on the page', async () => {
    const page = await open(system, { route: '#/upload' });
    await page.locator('main .upload').evaluate((target, strip) => {
      const data = new DataTransfer();
      data.items.add(new File([strip], 'dropped.csv', { type: 'text/csv' }));
      data.items.add(new File([new Uint8Array([137, 80, 78, 71, 13, 10, 26, 10])], 'broken.png', { type: 'image/png' }));
      for (const type of ['dragenter', 'dragover', 'drop']) {
        target.dispatchEvent(new DragEvent(type, { dataTransfer: data, bubbles: true, cancelable: true }));
      }
    }, ecg('--bpm', 80).toString());
    await page.getByRole('button', { name: /dropped\.csv ECG · (79|80|81) bpm/ }).waitFor();
    await page.getByText('broken.png was rejected.').waitFor();
    await page.context().close();
  });

  test('progress is shown for each file, and a cancelled upload is not stored', async () => {
    const page = await open(system, { route: '#/upload' });
    await fill(page, 6);
    await addEcgs(page, csv('one.csv', '--bpm', 60), csv('two.csv', '--bpm', 70));
    await page.getByText('Ready to upload').waitFor();
    const network = await page.context().newCDPSession(page);
    await network.send('Network.emulateNetworkConditions', {
      offline: false, latency: 0, downloadThroughput: -1, uploadThroughput: 30_000,
    });
    await send(page);
    const first = page.getByRole('progressbar', { name: 'one.csv' });
    await until('progress of the first file', async () => Number(await first.getAttribute('value')) > 0);
    const values = await page.locator('progress').evaluateAll((all) => all.map((one) => one.value));
    assert.ok(values[0] >= values[1], `${values}`);
    await page.getByText(/Sent .* of /).waitFor();
    await button(page.locator('.actions'), 'Cancel upload').click();
    await message(page, 'Upload cancelled. Nothing was cleared.');
    assert.deepEqual(await outboxEntries(page), []);
    assert.equal((await system.fetch('/api/v1/patients/6')).status, 404);
    await page.context().close();
  });

  test('an upload that a reload interrupts is sent afterwards and stored once', async () => {
    const page = await open(system, { route: '#/upload' });
    await fill(page, 7, 'Ann Lee');
    await addEcgs(page, csv('strip.csv', '--bpm', 60));
    await page.getByText('Ready to upload').waitFor();
    const network = await page.context().newCDPSession(page);
    const limit = (uploadThroughput) =>
      network.send('Network.emulateNetworkConditions', { offline: false, latency: 0, downloadThroughput: -1, uploadThroughput });
    await limit(20_000);
    await send(page);
    await page.getByText(/Sent .* of /).waitFor();
    const [entry] = await outboxEntries(page);
    assert.equal(entry.mrn, 7);
    await limit(-1);
    await page.reload();
    await until('the empty outbox', async () => (await outboxEntries(page)).length === 0);
    assert.equal((await system.json('/api/v1/patients/7/ecgs')).items.length, 1);
    await page.context().close();
  });

  test('an upload waits while the gateway is away, survives a reload, and is stored once', async () => {
    const page = await open(system, { route: '#/upload' });
    await page.evaluate(() => navigator.serviceWorker.ready);
    await page.reload();
    await fill(page, 8, 'Eve');
    await addEcgs(page, csv('strip.csv', '--bpm', 90));
    await page.getByText('Ready to upload').waitFor();
    await system.kill();
    await page.getByText('connection lost').first().waitFor();
    await page.locator('form').getByRole('button', { name: 'Upload', exact: true }).click();
    const dialog = page.getByRole('dialog');
    await dialog.getByText('The gateway cannot be reached. The upload will be kept here and sent later.').waitFor();
    await button(dialog, 'Upload').click();
    await page.getByText('The upload for patient 8 is kept on this device and will be sent as soon as possible.').waitFor();
    await page.getByText('Patient 8, Eve').waitFor();
    // Without the server, the service worker opens the page.
    await page.reload();
    await page.getByText('The server does not answer.').waitFor();
    assert.equal((await outboxEntries(page)).length, 1);
    await system.restart();
    await until('the empty outbox', async () => (await outboxEntries(page)).length === 0);
    await page.getByRole('heading', { name: 'Patient upload' }).waitFor();
    assert.equal((await system.json('/api/v1/patients/8/ecgs')).items.length, 1);
    await page.context().close();
  });

  test('a waiting upload that is rejected needs an action of the user', async () => {
    await system.upload(4, 'Bob', [], { rename: 'true' });
    const page = await open(system, { route: '#/upload' });
    await page.evaluate(async () => {
      const opening = indexedDB.open('bedside-outbox');
      await new Promise((resolve) => (opening.onsuccess = resolve));
      const entry = {
        id: '1', key: crypto.randomUUID(), owner: 'local', mrn: 4, name: 'Someone else', rename: false, byThisDevice: false,
        files: [], previews: [], createdAt: Date.now(),
      };
      const writing = opening.result.transaction('uploads', 'readwrite');
      writing.objectStore('uploads').put(entry);
      writing.objectStore('uploads').put({ ...entry, id: '2', key: crypto.randomUUID(), owner: 'another user', mrn: 9 });
      await new Promise((resolve) => (writing.oncomplete = resolve));
    });
    await page.reload();
    await page.getByText(/Rejected: Patient 4 is "Bob"/).waitFor();
    await page.getByText('1 upload of another user waits on this device.').waitFor();
    assert.equal(await page.getByText('Patient 9').count(), 0, 'the data of another user is not shown');
    await page.getByRole('button', { name: 'Rename and send: Patient 4, Someone else' }).click();
    await until('the new name', async () => (await system.json('/api/v1/patients/4')).name === 'Someone else');
    assert.deepEqual((await outboxEntries(page)).map((entry) => entry.mrn), [9], 'the upload of another user is not sent');
    await page.context().close();
  });

  test('an upload of one tab that another tab sends has its receipt in its own tab', async () => {
    const first = await open(system, { route: '#/upload' });
    const second = await first.context().newPage();
    await second.goto('/#/upload');
    await fill(second, 11, 'Two Tabs');
    await second.getByText('Ready to upload').waitFor();
    await send(second);
    await message(second, 'New patient 11 registered.');
    await message(first, 'A waiting upload was sent. New patient 11 registered.');
    assert.equal((await system.json('/api/v1/patients/11')).name, 'Two Tabs');
    await first.context().close();
  });

  test('the page speaks German, with dates and numbers of the locale', async () => {
    await system.upload(12, 'Anna');
    const page = await open(system, { route: '#/upload/12', locale: 'de-AT' });
    await message(page, 'Bekannt als Anna.');
    await addEcgs(page, csv('strip.csv', '--bpm', 75));
    await page.getByRole('button', { name: /strip\.csv EKG · 75 bpm, Qualität: gut/ }).waitFor();
    await page.getByLabel('Rate (Hz)').fill('0');
    await message(page, 'Geben Sie die Abtastrate in Werten pro Sekunde ein, von 1 bis 100');
    assert.equal(await page.evaluate(() => document.documentElement.lang), 'de');
    await go(page, '#/about');
    await page.getByRole('heading', { name: 'Über Bedside' }).waitFor();
    await page.context().close();
  });
});

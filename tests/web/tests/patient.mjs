// The page of a patient: strips on paper, live waveforms, lists, printing.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { after, before, describe, test } from 'node:test';
import { crc32, deflateSync } from 'node:zlib';
import { BEDSIDE, System, ecg, network, open, seenAt, until } from '../harness.mjs';

/** A PNG of 40 x 30 pixels of one grey. */
function png(grey) {
  const chunk = (type, data) => {
    const body = Buffer.concat([Buffer.from(type), data]);
    const [length, check] = [Buffer.alloc(4), Buffer.alloc(4)];
    length.writeUInt32BE(data.length);
    check.writeUInt32BE(crc32(body));
    return Buffer.concat([length, body, check]);
  };
  const head = Buffer.from([0, 0, 0, 40, 0, 0, 0, 30, 8, 0, 0, 0, 0]);
  const rows = Buffer.alloc(30 * 41, grey).map((value, at) => (at % 41 === 0 ? 0 : value));
  const signature = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]);
  return Buffer.concat([signature, chunk('IHDR', head), chunk('IDAT', deflateSync(rows)), chunk('IEND', Buffer.alloc(0))]);
}

/** Two leads of 20 s with 250 samples per second; lead II is missing from 4 s to 8 s. */
function withGap() {
  const rows = ['time_s,I (mV),II (mV)'];
  for (let at = 0; at < 5000; at++) {
    const time = at / 250;
    if (time >= 4 && time < 8) continue;
    const phase = time % 0.8;
    const beat = 1.2 * Math.exp(-(((phase - 0.3) / 0.012) ** 2)) + 0.2 * Math.exp(-(((phase - 0.55) / 0.05) ** 2));
    rows.push(`${time.toFixed(3)},${(beat / 2).toFixed(4)},${beat.toFixed(4)}`);
  }
  return Buffer.from(rows.join('\n'));
}

/** The pixels of a canvas: for each column in CSS pixels, whether it contains a very dark pixel. */
const darkColumns = (page, selector) =>
  page.evaluate((found) => {
    const canvas = document.querySelector(found);
    const { width, height, data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
    return Array.from({ length: width }, (_, x) => {
      // Below the marks of beats and the text of a gap, above the waves.
      for (let y = 40; y < height - 40; y++) {
        const at = (y * width + x) * 4;
        if (data[at] + data[at + 1] + data[at + 2] < 330) return true;
      }
      return false;
    });
  }, selector);

/** A number that depends on all pixels of the canvases of live traces. */
const picture = (page) =>
  page.evaluate(() =>
    [...document.querySelectorAll('.live canvas')].map((canvas) => {
      const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
      let sum = 0;
      for (let at = 3; at < data.length; at += 4) sum = (sum * 31 + data[at]) % 1_000_003;
      return sum;
    }),
  );

describe('patient', () => {
  let system;
  before(async () => {
    system = await System.start();
    const images = Array.from({ length: 26 }, (_, at) => ['medical_image', `scan-${at}.png`, png(at)]);
    await system.upload(1, 'Ann Lee', [['ecg', 'first.csv', ecg('--bpm', 60, '--seconds', 12)], ...images]);
    await system.upload(1, undefined, [['ecg', 'gap.csv', withGap()]]);
    await until('the analyses', async () =>
      (await system.json('/api/v1/patients/1/ecgs')).items.every((one) => one.status === 'analyzed'),
    );
  });
  after(() => system.stop());

  test('the latest ECG is on paper at 25 mm/s and 10 mm/mV, and missing samples are a gap', async () => {
    const page = await open(system, { route: '#/patients/1' });
    const pane = page.locator('section.ecg').first();
    await pane.getByText('25 mm/s · 10 mm/mV').waitFor();
    // 100 pixels are a second.
    const dark = await until('the trace', async () => {
      const columns = await darkColumns(page, 'section.ecg canvas');
      return columns.slice(20, 380).every(Boolean) && columns;
    });
    assert.equal(dark.slice(405, 795).some(Boolean), false, 'nothing is drawn from 4 s to 8 s');
    assert.deepEqual(page.problems, []);
    await page.context().close();
  });

  test('calipers measure with pointer and keyboard, and keys change the scale', async () => {
    const page = await open(system, { route: '#/patients/1' });
    const pane = page.locator('section.ecg').first();
    const canvas = pane.locator('canvas');
    await pane.getByText('25 mm/s · 10 mm/mV').waitFor();
    await pane.getByRole('button', { name: 'Calipers' }).click();
    const box = await canvas.boundingBox();
    await page.mouse.move(box.x + 100, box.y + 100);
    await page.mouse.down();
    await page.mouse.move(box.x + 180, box.y + 60, { steps: 3 });
    await page.mouse.up();
    await pane.getByText('800 ms · +1.00 mV · 75 bpm').waitFor();
    await canvas.focus();
    for (let count = 0; count < 2; count++) await page.keyboard.press('Shift+ArrowRight');
    await pane.getByText('1,000 ms · +1.00 mV · 60 bpm').waitFor();
    await page.keyboard.press('Escape');
    await page.keyboard.press('+');
    await pane.getByText('31 mm/s').waitFor();
    await page.keyboard.press('0');
    await pane.getByText('25 mm/s · 10 mm/mV').waitFor();
    assert.deepEqual(page.problems, []);
    await page.context().close();
  });

  test('another lead and an earlier ECG can be shown beside the latest', async () => {
    const page = await open(system, { route: '#/patients/1' });
    const pane = page.locator('section.ecg').first();
    const samples = page.waitForResponse((response) => response.url().includes('/samples?lead=II'));
    await pane.getByRole('combobox').selectOption(await pane.locator('option').filter({ hasText: /^\s*II\b/ }).getAttribute('value'));
    assert.equal((await samples).status(), 200);
    await page.locator('.history .row').nth(1).click();
    await page.getByRole('heading', { name: 'Selected ECG', exact: true }).waitFor();
    await page.getByRole('heading', { name: 'Intervals and findings of the selected ECG' }).waitFor();
    await page.getByRole('button', { name: 'Close' }).click();
    await page.getByRole('heading', { name: 'Selected ECG', exact: true }).waitFor({ state: 'detached' });
    assert.deepEqual(page.problems, []);
    await page.context().close();
  });

  test('images are listed page by page and can be zoomed', async () => {
    const page = await open(system, { route: '#/patients/1' });
    const images = page.locator('.images li');
    await until('the first page', async () => (await images.count()) === 24);
    await page.locator('.images').getByRole('button', { name: 'Load more' }).click();
    await until('all images', async () => (await images.count()) === 26);
    await page.locator('.images').getByText('26 images').waitFor();
    await images.first().getByRole('button').click();
    const shown = page.locator('dialog .frame img');
    const before = await until('the picture', async () => (await shown.boundingBox())?.width);
    await page.keyboard.press('-');
    await page.keyboard.press('0');
    await page.keyboard.press('+');
    await until('a larger picture', async () => (await shown.boundingBox()).width > before);
    await page.keyboard.press('Escape');
    assert.equal(await page.locator('dialog[open]').count(), 0);
    assert.deepEqual(page.problems, []);
    await page.context().close();
  });

  test('a strip is printed in its true size with name, number, time and zone', async () => {
    const page = await open(system, { route: '#/patients/1' });
    await page.evaluate(() => (window.print = () => (window.printed = true)));
    const pane = page.locator('section.ecg').first();
    await pane.getByText('25 mm/s · 10 mm/mV').waitFor();
    await until('the strip', async () => (await darkColumns(page, 'section.ecg canvas')).slice(20, 380).every(Boolean));
    await pane.getByRole('button', { name: 'Print' }).click();
    await page.waitForFunction(() => window.printed === true);
    await page.emulateMedia({ media: 'print' });
    const sheet = page.locator('.sheet');
    const text = await sheet.innerText();
    for (const part of ['Ann Lee', 'MRN 1', '(Europe/Vienna)', '25 mm/s · 10 mm/mV']) assert.ok(text.includes(part), text);
    const rows = sheet.locator('svg');
    assert.equal(await rows.count(), 2, 'two rows of ten seconds');
    const { width } = await rows.first().boundingBox();
    assert.ok(Math.abs(width - (250 * 96) / 25.4) < 1, `${width} CSS pixels are 250 mm`);
    assert.equal(await page.locator('.patient > .columns').isVisible(), false);
    await page.evaluate(() => window.dispatchEvent(new Event('afterprint')));
    await sheet.waitFor({ state: 'detached' });
    assert.deepEqual(page.problems, []);
    await page.context().close();
  });

  test('a cut connection stops traces and numerics, and nothing is missing when it is back', async () => {
    const args = ['stream', '--gateway', system.gateway, '--mrn', '6', '--name', 'Eve Fox', '--synthetic', '--log', 'error'];
    const device = spawn(BEDSIDE, args, { stdio: 'ignore' });
    const net = await network(system);
    try {
      await until('the patient', async () => (await system.fetch('/api/v1/patients/6')).status === 200);
      const page = await open({ url: net.url }, { route: '#/patients/6' });
      await page.locator('.live .numeric.heart_rate .value').filter({ hasText: /^\d+$/ }).waitFor();
      const overview = await open({ url: net.url });
      await overview.locator('a.tile[data-signal=live]').waitFor();
      const stopped = [seenAt(page, '.live .trace .mark'), seenAt(overview, 'a.tile[data-signal=stopped]')];
      const cut = Date.now();
      net.cut();
      for (const seen of stopped) {
        const delay = (await seen) - cut;
        assert.ok(delay <= 2_000, `a trace stops ${delay} ms after the network was cut`);
      }
      await overview.context().close();
      await page.locator('.live .trace .mark').filter({ hasText: /^no signal since/ }).first().waitFor();
      await page.locator('.live .numeric.spo2.stale').waitFor();
      await page.waitForTimeout(2_000);
      net.heal();
      await until('the signal', async () => (await page.locator('.live .trace .mark').count()) === 0);
      // The playhead passes the time without a connection.
      await page.waitForTimeout(3_000);
      await page.locator('.live').getByRole('button', { name: 'Freeze' }).click();
      await page.locator('.live .calipers').waitFor();
      await page.waitForTimeout(200);
      const empty = await page.evaluate(() =>
        [...document.querySelectorAll('.live canvas')].map((canvas) => {
          const { width, height, data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
          const isEmpty = (x) => Array.from({ length: height }, (_, y) => data[(y * width + x) * 4 + 3]).every((alpha) => alpha === 0);
          // The newest 0.4 s may still arrive.
          return Array.from({ length: 665 }, (_, at) => width - 705 + at).filter(isEmpty);
        }),
      );
      assert.deepEqual(empty, empty.map(() => []), 'the last seven seconds have no gap');
      assert.deepEqual(page.problems, []);
      await page.context().close();
    } finally {
      device.kill('SIGKILL');
      net.close();
    }
  });

  test('live traces move, can be frozen and measured, and say when the signal has stopped', async () => {
    const args = ['stream', '--gateway', system.gateway, '--mrn', '5', '--name', 'Bob Ray', '--synthetic', '--log', 'error'];
    const device = spawn(BEDSIDE, args, { stdio: 'ignore' });
    try {
      await until('the patient', async () => (await system.fetch('/api/v1/patients/5')).status === 200);
      const page = await open(system, { route: '#/patients/5' });
      await page.locator('.live canvas').first().waitFor();
      const first = await picture(page);
      await until('all traces to move', async () => (await picture(page)).every((sum, at) => sum !== first[at]));
      await page.locator('.live .numeric.heart_rate .value').filter({ hasText: /^\d+$/ }).waitFor();

      await page.locator('.live').getByRole('button', { name: 'Freeze' }).click();
      await page.locator('.live .calipers').waitFor();
      await page.waitForTimeout(100);
      const frozen = await picture(page);
      await page.waitForTimeout(500);
      assert.deepEqual(await picture(page), frozen);
      const box = await page.locator('.live .calipers').boundingBox();
      await page.mouse.move(box.x + 200, box.y + 30);
      await page.mouse.down();
      await page.mouse.move(box.x + 300, box.y + 30, { steps: 3 });
      await page.mouse.up();
      await page.locator('.live .reading').filter({ hasText: /^II: 1,000 ms .* 60\/min$/ }).waitFor();
      await page.locator('.live').getByRole('button', { name: 'Freeze' }).click();
      await until('the traces to continue', async () => (await picture(page)).every((sum, at) => sum !== frozen[at]));

      device.kill('SIGKILL');
      await page.locator('.live .trace .mark').filter({ hasText: /^no signal since \d\d:\d\d:\d\d$/ }).first().waitFor();
      assert.deepEqual(page.problems, []);
      await page.context().close();
    } finally {
      device.kill('SIGKILL');
    }
  });
});

// The first minute: `bedside --demo` prints its address, opens it in the browser of a desktop, and shows a live ward.

import assert from 'node:assert/strict';
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { BEDSIDE, Running, open, until } from '../harness.mjs';

describe('demo', () => {
  let folder;
  before(() => {
    folder = mkdtempSync(path.join(tmpdir(), 'bedside-demo-'));
    // A browser that only writes down what it is asked to open.
    const browser = path.join(folder, 'xdg-open');
    writeFileSync(browser, `#!/bin/sh\nprintf '%s' "$1" > ${folder}/opened-"$BEDSIDE_TEST_RUN"\n`);
    chmodSync(browser, 0o755);
  });
  after(() => rmSync(folder, { recursive: true, force: true }));

  /** Starts a demo in a terminal of a desktop: `script` gives it a terminal. */
  async function demo(name, ...more) {
    const args = ['--demo', '--data', path.join(folder, name), '--listen', '127.0.0.1:0', '--log', 'warn', ...more];
    const { SSH_CONNECTION, SSH_TTY, ...env } = process.env;
    const running = new Running('script', ['-qec', [BEDSIDE, ...args].map((part) => `'${part}'`).join(' '), '/dev/null'], {
      ...env, DISPLAY: ':99', BROWSER: path.join(folder, 'xdg-open'), PATH: `${folder}:${env.PATH}`, BEDSIDE_TEST_RUN: name,
    });
    [running.url] = await running.printed(/listens on (http\S+)/g);
    return running;
  }
  const opened = (name) => {
    const file = path.join(folder, `opened-${name}`);
    return existsSync(file) && readFileSync(file, 'utf8');
  };

  test('the address is opened on a desktop, and all patients are live', async () => {
    const running = await demo('with');
    try {
      const address = await until('the browser', () => opened('with'));
      assert.equal(address.replace(/\/$/, ''), running.url);
      assert.match(running.output, new RegExp(`To see the ward, open ${running.url}/? in a browser.`));
      const page = await open({ url: running.url });
      await until('eight live tiles', async () => (await page.locator('a.tile[data-signal=live]').count()) === 8, 60_000);
      assert.deepEqual(page.problems, []);
      await page.context().close();
    } finally {
      await running.kill();
    }
  });

  test('--no-open prevents it', async () => {
    const running = await demo('without', '--no-open');
    try {
      await new Promise((resolve) => setTimeout(resolve, 1_500));
      assert.equal(opened('without'), false);
    } finally {
      await running.kill();
    }
  });
});

// Runs the accessibility category of Lighthouse on all pages. Every page must have the score 100.
//
//   npm install --no-save lighthouse@13.5.0 && node lighthouse.mjs
//
// Settings: see harness.mjs.

import { chromium } from 'playwright-core';
import lighthouse from 'lighthouse';
import { PNG, System, ecg, freePort, until } from './harness.mjs';

const PAGES = ['#/', '#/patients/1', '#/alarms', '#/upload', '#/wards', '#/audit', '#/admin', '#/about'];

const port = await freePort();
const browser = await chromium.launch({
  executablePath: process.env.BEDSIDE_TEST_CHROMIUM ?? '/usr/bin/chromium',
  args: ['--no-sandbox', `--remote-debugging-port=${port}`],
});
const [system, withLogin] = [await System.start(), await System.startWithUsers([{ name: 'nora', role: 'nurse' }])];
let isPerfect = true;
try {
  await system.upload(1, 'Ann Lee', [['ecg', 'strip.csv', ecg('--bpm', 140)], ['medical_image', 'scan.png', PNG]]);
  await system.call('POST', '/api/v1/wards', { name: 'Ward 1' });
  await until('an alarm', async () => (await system.json('/api/v1/alarms')).items.length > 0);
  const addresses = [...PAGES.map((route) => `${system.url}/${route}`), `${withLogin.url}/#/login`];
  for (const address of addresses) {
    for (const formFactor of ['mobile', 'desktop']) {
      const screenEmulation = formFactor === 'desktop' ? { mobile: false, width: 1440, height: 900, deviceScaleFactor: 1 } : undefined;
      const { lhr } = await lighthouse(address, {
        port, formFactor, screenEmulation, onlyCategories: ['accessibility'], throttlingMethod: 'provided', logLevel: 'error',
        // The event stream never ends.
        maxWaitForLoad: 10_000,
      });
      const score = Math.round((lhr.categories.accessibility?.score ?? 0) * 100);
      const failed = Object.values(lhr.audits).filter((audit) => audit.score === 0).map(({ id }) => id);
      const passed = Object.values(lhr.audits).filter((audit) => audit.score === 1).length;
      console.log(`${new URL(address).hash.padEnd(14)} ${formFactor.padEnd(8)} ${score}  ${passed} checks passed ${failed.join(' ')}`);
      isPerfect &&= score === 100;
    }
  }
} finally {
  await browser.close();
  await system.stop();
  await withLogin.stop();
}
process.exitCode = isPerfect ? 0 : 1;

// All pages: sizes, themes, accessibility, keyboard, printing, installation, security.

import assert from 'node:assert/strict';
import path from 'node:path';
import { gzipSync } from 'node:zlib';
import { after, before, describe, test } from 'node:test';
import { PASSWORD, PNG, System, ecg, findings, foreignPage, go, launched, open, until } from '../harness.mjs';

const ROUTES = {
  overview: '#/', patient: '#/patients/1', alarms: '#/alarms', upload: '#/upload',
  wards: '#/wards', audit: '#/audit', admin: '#/admin', about: '#/about',
};
const SIZES = [[390, 844], [820, 1180], [1440, 900], [3840, 2160]];
const THEMES = ['light', 'dark'];
const SCREENS = process.env.BEDSIDE_TEST_SCREENS;
/** Texts that would run as a script or change the page if the page treated them as HTML. */
const ATTACK = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>';
const ATTACK_NAME = '<img src=x onerror="window.hacked=1">';
const ATTACK_FILE = '"><svg onload=window.hacked=1>.csv';

describe('pages', () => {
  let system;
  before(async () => {
    system = await System.start();
    await system.upload(1, 'Ann Lee', [['ecg', 'strip.csv', ecg('--bpm', 75)], ['medical_image', 'scan.png', PNG]], {
      heart_rate: '76',
    });
    const ward = await system.call('POST', '/api/v1/wards', { name: 'Ward 1' });
    const { beds } = await system.call('POST', `/api/v1/wards/${ward.id}/beds`, { name: 'Bed 1' });
    await system.call('POST', `/api/v1/wards/${ward.id}/beds`, { name: 'Bed 2' });
    await system.call('POST', '/api/v1/patients/1/admit', { bed: beds[0].id });
    await system.call('PATCH', '/api/v1/patients/1', { birth_date: '1950-03-12', sex: 'female', notes: 'Allergic to penicillin.', version: 0 });
    await system.call('POST', '/api/v1/users', { name: 'nora', role: 'nurse', display_name: 'Nora Nurse', password: PASSWORD, wards: [ward.id] });
    await system.upload(2, ATTACK, [['ecg', ATTACK_FILE, ecg('--bpm', 60)], ['medical_image', `${ATTACK}.png`, PNG]]);
    for (const mrn of [1, 2]) {
      await until('the analysis', async () => (await system.json(`/api/v1/patients/${mrn}/ecgs`)).items[0].status === 'analyzed');
    }
  });
  after(() => system.stop());

  test('the address gives browsers the page and other clients the documented text', async () => {
    const text = await system.fetch('/');
    assert.equal(await text.text(), 'Server is on');
    const page = await system.fetch('/', { headers: { accept: 'text/html' } });
    assert.match(await page.text(), /^<!doctype html>/i);
    const policy = page.headers.get('content-security-policy');
    assert.match(policy, /default-src 'none'/);
    assert.doesNotMatch(policy, /unsafe|\*|https?:/);
  });

  test('the whole page has at most 200 KB compressed, and its files have the hash of their content in their names', async () => {
    const page = await (await fetch(`${system.url}/`, { headers: { accept: 'text/html' } })).text();
    const worker = await (await fetch(`${system.url}/sw.js`)).text();
    const names = new Set([...`${page}${worker}`.matchAll(/\/assets\/[\w.-]+/g)].map(([name]) => name));
    assert.ok(names.size > 5, `${[...names]}`);
    let total = gzipSync(page).length + gzipSync(worker).length;
    for (const name of names) {
      assert.match(name, /-[\w-]{8}\.(js|css)$/);
      const response = await fetch(system.url + name);
      assert.equal(response.status, 200, name);
      total += gzipSync(Buffer.from(await response.arrayBuffer()), { level: 9 }).length;
    }
    assert.ok(total <= 200_000, `${total} bytes`);
  });

  test('the first content appears within a second on fast 3G, and the page is never shown without its styles', async () => {
    const context = await (await launched()).newContext({ viewport: { width: 390, height: 844 } });
    const page = await context.newPage();
    const protocol = await context.newCDPSession(page);
    await protocol.send('Network.enable');
    // The profile of the developer tools of Chromium.
    await protocol.send('Network.emulateNetworkConditions', {
      offline: false, latency: 562.5, downloadThroughput: 180_000, uploadThroughput: 84_375,
    });
    await page.addInitScript(() => {
      const observer = new MutationObserver(() => {
        const shown = document.querySelector('#app > :not(p.muted)');
        if (shown === null) return;
        observer.disconnect();
        window.isStyled = getComputedStyle(document.documentElement).getPropertyValue('--surface') !== '';
      });
      observer.observe(document, { childList: true, subtree: true });
    });
    await page.goto(system.url);
    const paint = await page.waitForFunction(() => performance.getEntriesByName('first-contentful-paint')[0]?.startTime);
    const ms = await paint.jsonValue();
    assert.ok(ms < 1_000, `first contentful paint after ${ms} ms`);
    await page.locator('main').waitFor();
    assert.equal(await page.evaluate(() => window.isStyled), true);
    await context.close();
  });

  test('the first content is the frame of the page with the state of the connection, until the server has answered', async () => {
    const context = await (await launched()).newContext({ viewport: { width: 390, height: 844 } });
    const page = await context.newPage();
    // Neither styles nor scripts arrive.
    await page.route('**/assets/**', (route) => route.abort());
    await page.goto(system.url);
    await page.waitForFunction(() => performance.getEntriesByName('first-contentful-paint').length === 1);
    const skeleton = page.locator('#skeleton');
    for (const text of ['Bedside', 'connecting…']) {
      const box = await skeleton.getByText(text, { exact: true }).boundingBox();
      assert.ok(box !== null && box.x >= 0 && box.x + box.width <= 390 && box.y < 60, `${text}: ${JSON.stringify(box)}`);
    }
    const tiles = await skeleton.locator('[fill="url(#tiles)"]').boundingBox();
    assert.ok(tiles.width > 350 && tiles.height > 500, JSON.stringify(tiles));
    await page.unroute('**/assets/**');
    let answer;
    const held = new Promise((resolve) => (answer = resolve));
    await page.route('**/api/v1/session', async (route) => {
      await held;
      await route.continue();
    });
    await page.reload();
    await page.locator('#app > *').first().waitFor({ state: 'attached' });
    assert.ok(await skeleton.getByText('connecting…').isVisible());
    assert.equal(await page.locator('main').count(), 0);
    answer();
    await page.locator('main').waitFor();
    await skeleton.waitFor({ state: 'detached' });
    await context.close();
  });

  test('every page fits every size in both themes', async () => {
    for (const theme of THEMES) {
      const page = await open(system, { colorScheme: theme });
      for (const [name, route] of Object.entries(ROUTES)) {
        await go(page, route);
        for (const [width, height] of SIZES) {
          await page.setViewportSize({ width, height });
          const fits = `${name} fits ${width} x ${height}`;
          const isSized = () => page.evaluate((wanted) => window.innerWidth === wanted, width);
          await until(`${fits}: the new size`, isSized);
          await until(fits, () => page.evaluate(() => document.documentElement.scrollWidth <= window.innerWidth), 2_000);
          if (SCREENS) {
            await page.waitForTimeout(300);
            await page.screenshot({ path: path.join(SCREENS, `${name}-${width}-${theme}.png`) });
          }
        }
      }
      const background = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
      const light = background.match(/\d+/g).map(Number)[0] > 128;
      assert.equal(light, theme === 'light', background);
      assert.deepEqual(page.problems, []);
      await page.context().close();
    }
  });

  test('axe finds nothing on any page in both themes', async () => {
    const found = [];
    for (const theme of THEMES) {
      const page = await open(system, { colorScheme: theme });
      for (const [name, route] of Object.entries(ROUTES)) {
        await go(page, route);
        await page.waitForTimeout(100);
        for (const finding of await findings(page)) found.push(`${name}, ${theme}: ${finding}`);
      }
      await page.context().close();
    }
    assert.deepEqual(found, []);
  });

  test('everything can be reached and used by keyboard', async () => {
    const page = await open(system);
    const focused = () =>
      page.evaluate(() => {
        const element = document.activeElement;
        const style = getComputedStyle(element);
        const text = (element.getAttribute('aria-label') ?? element.textContent).trim();
        return { text, outline: style.outlineStyle, isControl: element.matches('a, button, input, select') };
      });
    const tabTo = async (pattern) => {
      for (let presses = 0; presses < 60; presses += 1) {
        await page.keyboard.press('Tab');
        const { text, outline, isControl } = await focused();
        if (isControl && pattern.test(text)) {
          assert.notEqual(outline, 'none', `${text} shows its focus`);
          return;
        }
      }
      assert.fail(`${pattern} is not reached`);
    };
    await tabTo(/^Skip to the content$/);
    await page.keyboard.press('Enter');
    // The tiles are one stop; the arrow keys move among them.
    await tabTo(/MRN 1|MRN 2|Ann Lee|onerror/);
    for (let presses = 0; presses < 2 && !/Ann Lee/.test((await focused()).text); presses += 1) {
      await page.keyboard.press('ArrowRight');
    }
    assert.match((await focused()).text, /Ann Lee/);
    await page.keyboard.press('Enter');
    await page.waitForURL(/#\/patients\/1$/);
    await page.evaluate(() => document.activeElement.blur());
    await tabTo(/^Upload$/);
    await page.keyboard.press('Enter');
    await page.getByRole('heading', { name: 'Patient upload' }).waitFor();
    await page.getByLabel('Medical record number').focus();
    await page.keyboard.type('3');
    await page.keyboard.press('Tab');
    await page.keyboard.type('Keyboard');
    await page.getByText('New patient: no patient has this number.').waitFor();
    await page.keyboard.press('Enter');
    await page.getByRole('dialog').waitFor();
    await page.keyboard.press('Escape');
    await page.getByRole('dialog').waitFor({ state: 'hidden' });
    await page.keyboard.press('Enter');
    await page.getByRole('dialog').getByRole('button', { name: 'Upload', exact: true }).waitFor();
    await tabTo(/^Upload$/);
    await page.keyboard.press('Enter');
    await page.getByText('New patient 3 registered.').waitFor();
    await page.context().close();
  });

  test('a phone is used by touch', async () => {
    const page = await open(system, { viewport: { width: 390, height: 844 }, hasTouch: true, isMobile: true });
    await page.locator('a.tile', { hasText: 'Ann Lee' }).tap();
    await page.waitForURL(/#\/patients\/1$/);
    const pane = page.locator('section.ecg').first();
    await pane.getByText('25 mm/s · 10 mm/mV').waitFor();
    await pane.getByRole('button', { name: 'Calipers' }).tap();
    const canvas = pane.locator('canvas');
    await canvas.scrollIntoViewIfNeeded();
    const { x, y } = await canvas.boundingBox();
    const protocol = await page.context().newCDPSession(page);
    const touch = (type, ...touchPoints) => protocol.send('Input.dispatchTouchEvent', { type, touchPoints });
    await touch('touchStart', { x: x + 50, y: y + 60 });
    for (const moved of [90, 130]) await touch('touchMove', { x: x + moved, y: y + 60 });
    await touch('touchEnd');
    await pane.getByText(/800 ms · .* · 75 bpm/).waitFor();
    // On a busy machine, the browser takes a tap for a long press.
    await until('the alarms page', async () => {
      await page.getByRole('link', { name: 'Alarms', exact: true }).tap();
      return /#\/alarms$/.test(page.url());
    });
    await page.getByRole('heading', { name: 'Alarms', exact: true }).waitFor();
    const small = await page.locator('button:visible, nav a:visible, select:visible').evaluateAll((all) =>
      all.filter((one) => one.getBoundingClientRect().height < 24 || one.getBoundingClientRect().width < 24).map((one) => one.outerHTML),
    );
    assert.deepEqual(small, [], 'every control is large enough for a finger');
    assert.deepEqual(page.problems, []);
    await page.context().close();
  });

  test('texts of users are shown as text', async () => {
    const page = await open(system, { route: '#/upload/2' });
    await page.locator('input[data-kind=ecg]').setInputFiles({ name: ATTACK_FILE, mimeType: 'text/csv', buffer: ecg() });
    await page.locator('.files').getByText(ATTACK_FILE).waitFor();
    await page.getByText(`Known as ${ATTACK}.`).waitFor();
    for (const route of ['#/', '#/patients/2', '#/alarms']) {
      await go(page, route);
      if (route !== '#/alarms') await page.getByText(ATTACK).first().waitFor();
      assert.equal(await page.locator('main img[src=x], main svg[onload], main script').count(), 0);
    }
    // Names of wards, beds and persons, notes and reasons.
    const ward = await system.call('POST', '/api/v1/wards', { name: ATTACK_NAME });
    const { beds } = await system.call('POST', `/api/v1/wards/${ward.id}/beds`, { name: ATTACK_NAME });
    await system.call('POST', '/api/v1/patients/2/admit', { bed: beds[0].id });
    await system.call('PATCH', '/api/v1/patients/2', { notes: ATTACK, version: 0 });
    await system.call('POST', '/api/v1/patients/2/name', { name: `${ATTACK}2`, reason: ATTACK });
    await system.call('POST', '/api/v1/users', { name: 'mallory', role: 'nurse', display_name: ATTACK_NAME, password: PASSWORD });
    for (const [route, wanted] of [['#/', ATTACK_NAME], ['#/wards', ATTACK_NAME], ['#/admin', ATTACK_NAME], ['#/patients/2', `${ATTACK}2`]]) {
      await go(page, route);
      await page.getByText(wanted).filter({ visible: true }).first().waitFor();
      if (route === '#/patients/2') {
        await page.getByRole('tab', { name: 'Corrections' }).click();
        await page.getByRole('tabpanel').getByText(ATTACK).first().waitFor();
      }
      assert.equal(await page.locator('main img[src=x], main svg[onload], main script').count(), 0, route);
    }
    assert.equal(await page.evaluate(() => window.hacked), undefined);
    assert.deepEqual(page.problems, []);
    await page.context().close();
    await system.call('POST', '/api/v1/patients/2/discharge', {});
    await system.call('DELETE', `/api/v1/wards/${ward.id}`);
  });

  test('the policy stops scripts and styles that get into the page', async () => {
    const page = await open(system);
    const blocked = await page.evaluate(async () => {
      const violations = [];
      document.addEventListener('securitypolicyviolation', (event) => violations.push(event.effectiveDirective));
      const script = document.createElement('script');
      script.textContent = 'window.hacked = 1';
      document.body.append(script);
      const frame = document.createElement('div');
      frame.innerHTML = '<img src="x" onerror="window.hacked = 2"><p style="color: red"></p>';
      document.body.append(frame);
      await fetch('https://example.com/').catch(() => undefined);
      await new Promise((resolve) => setTimeout(resolve, 300));
      return { violations, hacked: window.hacked };
    });
    assert.equal(blocked.hacked, undefined);
    for (const directive of ['script-src-elem', 'script-src-attr', 'style-src-attr', 'connect-src']) {
      assert.ok(blocked.violations.includes(directive), `${directive}: ${blocked.violations}`);
    }
    await page.context().close();
  });

  test('a page of another origin reads nothing and changes nothing', async () => {
    const context = await (await launched()).newContext();
    const attacker = await foreignPage(context, system.gateway);
    const framed = await attacker.page.evaluate(async (gateway) => {
      const frame = document.createElement('iframe');
      frame.src = `${gateway}/`;
      document.body.append(frame);
      await new Promise((resolve) => setTimeout(resolve, 500));
      try {
        return frame.contentDocument ? 'own' : 'blocked';
      } catch {
        // Another origin.
        return 'blocked';
      }
    }, system.gateway);
    assert.notEqual(framed, 'own');
    const fields = { name: 'Mallory' };
    assert.equal(await attacker.connect('/api/v1/live'), 'blocked');
    assert.equal(await attacker.attempt('/api/v1/patients'), 'blocked');
    await attacker.attempt('/api/v1/patients/1/uploads', { method: 'POST', fields, mode: 'no-cors' });
    assert.equal(await attacker.attempt('/api/v1/ecg/preview', { method: 'POST', fields }), 'blocked');
    assert.equal((await system.json('/api/v1/patients/1')).name, 'Ann Lee', 'a form of another origin changes nothing');
    await context.close();
    attacker.close();
  });

  test('a patient is printed without the controls of the page', async () => {
    const page = await open(system, { route: '#/patients/1' });
    await page.getByText('Ann Lee').first().waitFor();
    await page.emulateMedia({ media: 'print' });
    assert.equal(await page.locator('#app > header').isVisible(), false);
    assert.ok(await page.getByText('Ann Lee').first().isVisible());
    const pdf = await page.pdf({ format: 'A4' });
    assert.match(pdf.subarray(0, 5).toString(), /^%PDF-/);
    const background = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    assert.match(background, /rgba?\((255, 255, 255|0, 0, 0, 0)\)/);
    await page.context().close();
  });

  test('the page can be installed, and its service worker keeps no patient data', async () => {
    const page = await open(system);
    const manifest = await (await page.request.get('/manifest.webmanifest')).json();
    assert.equal(manifest.display, 'standalone');
    assert.ok(manifest.icons.some((icon) => icon.sizes.includes('512')));
    await page.evaluate(() => navigator.serviceWorker.ready);
    // The second load is controlled by the service worker.
    await page.reload();
    await page.waitForFunction(() => navigator.serviceWorker.controller !== null);
    for (const route of Object.values(ROUTES)) await go(page, route);
    await page.reload();
    await page.getByRole('heading').first().waitFor();
    const kept = await page.evaluate(async () => {
      const urls = [];
      for (const name of await caches.keys()) {
        for (const request of await (await caches.open(name)).keys()) urls.push(new URL(request.url).pathname);
      }
      return { urls, storage: JSON.stringify({ ...localStorage, ...sessionStorage }) };
    });
    assert.ok(kept.urls.includes('/') && kept.urls.length > 5, `${kept.urls}`);
    for (const url of kept.urls) assert.match(url, /^\/(assets\/[\w.-]+)?$/);
    assert.doesNotMatch(kept.storage, /Ann/);
    await page.context().setOffline(true);
    await page.reload();
    await page.locator('main').waitFor();
    assert.equal(await page.getByText('Ann Lee').count(), 0);
    await page.context().close();
  });
});

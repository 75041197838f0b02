// Login, sessions, roles and what the page keeps of them.

import assert from 'node:assert/strict';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { PASSWORD, System, ecg, foreignPage, go, network, open, seriousFindings, signIn, until } from '../harness.mjs';

const USERS = [
  { name: 'chief', role: 'admin', person: 'Cora Chief' },
  { name: 'nora', role: 'nurse', person: 'Nora Nurse' },
  { name: 'vic', role: 'viewer' },
  { name: 'ada', role: 'auditor' },
  { name: 'tim', role: 'technician' },
];

const storage = (page) => page.evaluate(() => JSON.stringify([{ ...localStorage }, { ...sessionStorage }, document.cookie, window.location.href]));

describe('sessions', () => {
  let system;
  before(async () => {
    system = await System.startWithUsers(USERS);
    await system.upload(7, 'Ann Lee', [['ecg', 'strip.csv', ecg('--bpm', 75)]]);
  });
  after(() => system.stop());

  test('a user signs in on the page that was opened, and it opens', async () => {
    const page = await open(system, { route: '#/patients/7' });
    await page.getByRole('heading', { name: 'User and password' }).waitFor();
    assert.equal(await page.getByText('Ann Lee').count(), 0);
    await signIn(page, 'nora', 'not the password');
    await page.getByRole('alert').getByText('The user or the password is wrong.').waitFor();
    assert.equal(await page.getByLabel('Password', { exact: true }).inputValue(), '');
    await signIn(page, 'nora');
    await page.getByRole('heading', { name: 'Ann Lee' }).waitFor();
    assert.match(page.url(), /#\/patients\/7$/);
    await page.getByRole('button', { name: 'User: Nora Nurse, Nurse' }).click();
    await page.getByText('Signed in with name and password').waitFor();
    // The secret is in a cookie that no script can read, and nothing about the user is kept.
    const [cookie] = await page.context().cookies();
    assert.deepEqual([cookie.name, cookie.httpOnly, cookie.sameSite], ['bedside_session', true, 'Strict']);
    const kept = await storage(page);
    for (const secret of [cookie.value, PASSWORD, 'nora', 'Nora']) assert.ok(!kept.includes(secret), kept);
    await page.reload();
    await page.getByRole('heading', { name: 'Ann Lee' }).waitFor();
    assert.deepEqual(page.problems, []);
    await page.context().close();
  });

  test('a token is exchanged for a session and is kept nowhere', async () => {
    const page = await open(system);
    await page.getByText('Sign in with an access token').click();
    await page.getByLabel('Access token').fill(system.token);
    await page.getByRole('button', { name: 'Sign in with token' }).click();
    await page.locator('main a.tile', { hasText: 'Ann Lee' }).waitFor();
    const kept = await storage(page);
    assert.ok(!kept.includes(system.token), kept);
    const [cookie] = await page.context().cookies();
    assert.ok(!cookie.value.includes(system.token));
    await page.getByRole('button', { name: 'User: test, Administrator' }).waitFor();
    await page.context().close();
  });

  test('changes carry the header, and are rejected without it', async () => {
    const page = await open(system, { route: '#/upload' });
    await signIn(page, 'nora');
    const sent = page.waitForRequest((request) => request.url().endsWith('/uploads') && request.method() === 'POST');
    await page.getByLabel('Medical record number').fill('8');
    await page.getByLabel('Name').fill('Bob');
    await page.getByRole('button', { name: 'Upload', exact: true }).first().click();
    await page.getByRole('dialog').getByRole('button', { name: 'Upload', exact: true }).click();
    assert.match((await sent).headers()['x-bedside-csrf'], /^[0-9a-f]{64}$/);
    await page.getByText('New patient 8 registered.').waitFor();
    const status = await page.evaluate(async () => {
      const body = JSON.stringify({ name: 'Mallory', reason: 'none' });
      const headers = { 'content-type': 'application/json' };
      return (await fetch('/api/v1/patients/8/name', { method: 'POST', body, headers })).status;
    });
    assert.equal(status, 403);
    await page.context().close();
  });

  test('a page of another origin, to which the browser sends the cookie, reads nothing and changes nothing', async () => {
    const page = await open(system);
    await signIn(page, 'nora');
    await page.locator('main a.tile').first().waitFor();
    // Another port is another origin on the same site, so that the cookie is sent in spite of SameSite=Strict.
    const attacker = await foreignPage(page.context(), system.gateway);
    const json = { method: 'POST', headers: { 'content-type': 'application/json' }, body: '{"name":"Mallory","reason":"none"}' };
    for (const [route, options] of [['/api/v1/session'], ['/api/v1/patients'], ['/api/v1/patients/7/name', json]]) {
      assert.equal(await attacker.attempt(route, options), 'blocked', route);
    }
    assert.equal(await attacker.connect('/api/v1/live'), 'blocked');
    await attacker.attempt('/api/v1/patients', { mode: 'no-cors' });
    const protocol = await page.context().newCDPSession(attacker.page);
    await protocol.send('Network.enable');
    // These are sent with the cookie, and the gateway rejects them.
    for (const [route, options] of [
      ['/api/v1/patients/7/uploads', { method: 'POST', fields: { name: 'Mallory', rename: 'true' } }],
      ['/api/v1/patients/7/name', { ...json, headers: { 'content-type': 'text/plain' } }],
    ]) {
      // The browser hides the answer from the page, and reports it to the developer tools only.
      const sent = new Promise((resolve) => protocol.once('Network.requestWillBeSentExtraInfo', resolve));
      const answer = new Promise((resolve) => protocol.once('Network.responseReceivedExtraInfo', resolve));
      await attacker.attempt(route, { ...options, mode: 'no-cors' });
      assert.match(JSON.stringify((await sent).headers), /bedside_session=/);
      assert.equal((await answer).statusCode, 403, route);
    }
    const patient = await system.json('/api/v1/patients/7');
    assert.equal(patient.name, 'Ann Lee');
    await page.context().close();
    attacker.close();
  });

  test('the login page and the user menu fit a phone, and axe finds nothing serious in both themes', async () => {
    const screens = process.env.BEDSIDE_TEST_SCREENS;
    for (const colorScheme of ['light', 'dark']) {
      const page = await open(system, { colorScheme, viewport: { width: 390, height: 844 } });
      await page.getByText('Sign in with an access token').click();
      const shot = async (name) => {
        assert.deepEqual(await seriousFindings(page), [], `${name}, ${colorScheme}`);
        for (const [width, height] of [[1440, 900], [390, 844]]) {
          await page.setViewportSize({ width, height });
          await until(`${name} fits`, () => page.evaluate(() => document.documentElement.scrollWidth <= window.innerWidth));
          if (screens) await page.screenshot({ path: path.join(screens, `${name}-${width}-${colorScheme}.png`) });
        }
      };
      await shot('login');
      await signIn(page, 'nora');
      await page.locator('main a.tile').first().waitFor();
      await page.getByRole('button', { name: /^User: / }).click();
      await page.getByRole('button', { name: 'Sign out' }).waitFor();
      await shot('user');
      await page.context().close();
    }
  });

  test('logging out ends the session in all tabs and at the server', async () => {
    const page = await open(system);
    await signIn(page, 'nora');
    await page.locator('main a.tile').first().waitFor();
    const other = await page.context().newPage();
    await other.goto('/#/patients/7');
    await other.getByRole('heading', { name: 'Ann Lee' }).waitFor();
    const [cookie] = await page.context().cookies();
    await page.getByRole('button', { name: /^User: Nora Nurse/ }).click();
    await page.getByRole('button', { name: 'Sign out' }).click();
    for (const tab of [page, other]) {
      await tab.getByText('You are signed out.').waitFor();
      assert.equal(await tab.getByText('Ann Lee').count(), 0);
    }
    const again = await fetch(`${system.gateway}/api/v1/patients`, { headers: { cookie: `bedside_session=${cookie.value}` } });
    assert.equal(again.status, 401);
    await page.context().close();
  });

  test('a session that the server ends is named, and the page opens again after the next login', async () => {
    const page = await open(system, { route: '#/patients/7' });
    await signIn(page, 'vic');
    await page.getByRole('heading', { name: 'Ann Lee' }).waitFor();
    await system.call('PATCH', '/api/v1/users/vic', { disabled: true });
    await page.getByText('The session has ended.').waitFor({ timeout: 5_000 });
    assert.equal(await page.getByText('Ann Lee').count(), 0);
    await system.call('PATCH', '/api/v1/users/vic', { disabled: false });
    await signIn(page, 'vic');
    await page.getByRole('heading', { name: 'Ann Lee' }).waitFor();
    assert.deepEqual(page.problems, []);
    await page.context().close();
  });

  test('the navigation has only the pages of the role, and other addresses say so', async () => {
    const expected = {
      vic: ['Overview', 'Alarms', 'About'],
      nora: ['Overview', 'Alarms', 'Upload', 'Wards', 'About'],
      ada: ['Audit', 'About'],
      tim: ['Admin', 'About'],
      chief: ['Overview', 'Alarms', 'Upload', 'Wards', 'Audit', 'Admin', 'About'],
    };
    for (const [user, pages] of Object.entries(expected)) {
      const page = await open(system);
      await signIn(page, user);
      await page.getByRole('button', { name: /^User: / }).waitFor();
      const shown = await page.getByRole('navigation').getByRole('link').allTextContents();
      assert.deepEqual(shown.map((text) => text.trim().replace(/\s+\d+$/, '')), pages, user);
      if (user === 'nora') {
        await go(page, '#/audit');
        await page.getByText('Your role (Nurse) does not allow this page.').waitFor();
      }
      if (user === 'ada') await page.waitForURL(/#\/audit$/);
      assert.deepEqual(page.problems, [], user);
      await page.context().close();
    }
  });

  test('a viewer can change nothing on any page', async () => {
    const page = await open(system, { route: '#/patients/7' });
    await signIn(page, 'vic');
    await page.getByRole('heading', { name: 'Ann Lee' }).waitFor();
    await page.getByRole('tab', { name: 'ECGs' }).waitFor();
    for (const name of ['Details', 'Correct name', /^Correct/]) assert.equal(await page.getByRole('button', { name }).count(), 0);
    await page.context().close();
  });

  test('a user changes the own password', async () => {
    await system.call('POST', '/api/v1/users', { name: 'pat', role: 'nurse', password: PASSWORD });
    const page = await open(system);
    await signIn(page, 'pat');
    await page.getByRole('button', { name: /^User: pat/ }).click();
    await page.getByRole('button', { name: 'Change password' }).click();
    const dialog = page.getByRole('dialog');
    await dialog.getByLabel('Current password').fill('wrong password here');
    await dialog.getByLabel('New password').fill('another good password');
    await dialog.getByRole('button', { name: 'Change password' }).click();
    await dialog.getByRole('alert').waitFor();
    await dialog.getByLabel('Current password').fill(PASSWORD);
    await dialog.getByLabel('New password').fill('another good password');
    await dialog.getByRole('button', { name: 'Change password' }).click();
    await page.getByRole('heading', { name: 'User and password' }).waitFor();
    await signIn(page, 'pat', 'another good password');
    await page.getByRole('button', { name: /^User: pat/ }).waitFor();
    await page.context().close();
  });

  test('a failed login at the provider is named', async () => {
    const page = await open(system, { route: '#/login/denied' });
    await page.getByRole('alert').getByText(/did not accept this login/).waitFor();
    await signIn(page, 'nora');
    await page.locator('main a.tile').first().waitFor();
    assert.match(page.url(), /#\/$/);
    await page.context().close();
  });

  test('a gateway that ends and starts again keeps the session', async () => {
    const page = await open(system, { route: '#/patients/7' });
    await signIn(page, 'nora');
    await page.getByRole('heading', { name: 'Ann Lee' }).waitFor();
    await system.kill();
    await page.locator('.connection.offline').waitFor();
    assert.ok(await page.getByRole('heading', { name: 'Ann Lee' }).isVisible(), 'what is known stays');
    await system.restart();
    await page.locator('.connection.live').waitFor();
    assert.deepEqual(page.problems, []);
    await page.context().close();
  });
});

describe('idle sessions', () => {
  let system;
  before(async () => {
    system = await System.startWithUsers(USERS, '--session-idle', '10s');
    await system.upload(7, 'Ann Lee');
  });
  after(() => system.stop());

  test('a page that nobody uses warns and signs out, and says why; use keeps it', async () => {
    const page = await open(system, { route: '#/patients/7' });
    await signIn(page, 'nora');
    await page.getByRole('heading', { name: 'Ann Lee' }).waitFor();
    const end = Date.now() + 12_000;
    while (Date.now() < end) {
      await page.mouse.move(100 + (Date.now() % 100), 300);
      await new Promise((resolve) => setTimeout(resolve, 400));
    }
    assert.ok(await page.getByRole('heading', { name: 'Ann Lee' }).isVisible(), 'somebody uses it');
    await page.getByText(/You will be signed out in \d s\./).waitFor({ timeout: 12_000 });
    await page.getByText('You were signed out because nobody used this page').waitFor({ timeout: 5_000 });
    await until('the cookie is gone', async () => (await page.context().cookies()).every(({ name }) => name !== 'bedside_session'));
    await signIn(page, 'nora');
    await page.getByRole('heading', { name: 'Ann Lee' }).waitFor();
    assert.deepEqual(page.problems, []);
    await page.context().close();
  });

  test('a page that nobody uses hides its patients without a connection, too', async () => {
    const cable = await network(system);
    const page = await open(cable, { route: '#/patients/7' });
    await signIn(page, 'nora');
    await page.getByRole('heading', { name: 'Ann Lee' }).waitFor();
    cable.cut();
    await page.getByText('You were signed out because nobody used this page').waitFor({ timeout: 40_000 });
    assert.equal(await page.getByText('Ann Lee').count(), 0);
    await page.context().close();
    cable.close();
  });

  test('a viewer stays signed in', async () => {
    const page = await open(system);
    await signIn(page, 'vic');
    await page.locator('main a.tile').first().waitFor();
    await new Promise((resolve) => setTimeout(resolve, 13_000));
    assert.ok(await page.locator('main a.tile').first().isVisible());
    await page.locator('.connection.live').waitFor();
    await page.context().close();
  });
});

describe('without tokens', () => {
  test('nothing asks for a login, and there is no user to sign out', async () => {
    const system = await System.start();
    await system.upload(1, 'Ann Lee');
    const page = await open(system);
    await page.locator('main a.tile').first().waitFor();
    assert.equal(await page.getByRole('button', { name: /^User: / }).count(), 0);
    assert.equal(await page.getByRole('button', { name: 'Sign out' }).count(), 0);
    await page.context().close();
    await system.stop();
  });
});

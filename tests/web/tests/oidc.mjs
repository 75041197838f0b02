// Login through the browser at a real OpenID Connect provider: the npm package oidc-provider.

import assert from 'node:assert/strict';
import { rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { after, before, describe, test } from 'node:test';
import { Running, System, freePort, open, server } from '../harness.mjs';

describe('OpenID Connect', () => {
  let system;
  let provider;
  let issuer;
  let site;
  let secret;
  before(async () => {
    const port = await freePort();
    // The provider is another site than the gateway, so that cookies of the gateway with SameSite=Strict are not sent on the way back.
    site = { url: `http://localhost:${port}` };
    const redirect = `${site.url}/api/v1/session/oidc/callback`;
    const script = fileURLToPath(new URL('../../oidc/provider.mjs', import.meta.url));
    provider = new Running(process.execPath, [script, server('BEDSIDE_TEST_OIDC_PROVIDER'), redirect]);
    [issuer] = await provider.printed(/^(http:\S+)$/gm);
    secret = path.join(tmpdir(), `bedside-oidc-${port}`);
    writeFileSync(secret, 'secret-of-the-test\n', { mode: 0o600 });
    system = await System.startAt(
      `127.0.0.1:${port}`, [], '--oidc-issuer', issuer, '--oidc-redirect', redirect, '--oidc-client-secret-file', secret,
      '--oidc-roles', 'icu-nurses=nurse',
    );
    await system.upload(7, 'Ann Lee');
  });
  after(async () => {
    await system?.stop();
    await provider?.kill();
    rmSync(secret, { force: true });
  });

  /** Chooses the account that signs in at the provider next. */
  const account = (name) => fetch(`${issuer}/as/${name}`);

  test('the login button leads to the provider and back to the overview, with the role of the group', async () => {
    await account('anna');
    const page = await open(site);
    const visited = [];
    page.on('framenavigated', (frame) => visited.push(frame.url()));
    const asked = page.waitForRequest((request) => request.url().startsWith(`${issuer}/auth`));
    await page.getByRole('button', { name: 'Sign in with your organisation' }).click();
    assert.match((await asked).url(), /code_challenge_method=S256/);
    await page.locator('main a.tile', { hasText: 'Ann Lee' }).waitFor();
    await page.getByRole('button', { name: 'User: Anna Berg, Nurse' }).click();
    await page.getByText(/Signed in/).waitFor();
    // No code and no token stays in the address or in the storage of the browser.
    assert.equal(new URL(page.url()).search, '');
    const kept = await page.evaluate(() => JSON.stringify([{ ...localStorage }, { ...sessionStorage }, document.cookie]));
    assert.doesNotMatch(kept, /code|token|anna/i);
    const cookies = await page.context().cookies(site.url);
    const own = cookies.find(({ name }) => name === 'bedside_session');
    assert.deepEqual([own.httpOnly, own.sameSite], [true, 'Strict']);
    await page.reload();
    await page.locator('main a.tile', { hasText: 'Ann Lee' }).waitFor();
    assert.deepEqual(page.problems, []);
    await page.context().close();
  });

  test('the page that was opened appears after the login', async () => {
    await account('anna');
    const page = await open(site, { route: '#/patients/7' });
    await page.getByRole('button', { name: 'Sign in with your organisation' }).click();
    await page.getByRole('heading', { name: 'Ann Lee' }).waitFor();
    assert.match(page.url(), /#\/patients\/7$/);
    await page.context().close();
  });

  test('a person without a role is told so', async () => {
    await account('ben');
    const page = await open(site);
    await page.getByRole('button', { name: 'Sign in with your organisation' }).click();
    await page.getByRole('alert').getByText(/did not accept this login/).waitFor();
    assert.equal(await page.getByText('Ann Lee').count(), 0);
    await page.context().close();
  });
});

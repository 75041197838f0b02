// An OpenID Connect provider for tests: node provider.mjs PACKAGE REDIRECT
//
// PACKAGE is the entry point of the npm package oidc-provider; REDIRECT is the redirect URI of the client `bedside`. Prints its
// issuer. `GET /as/NAME` chooses the account that logs in next, without a form.

import http from 'node:http';

const [, , packagePath, redirect] = process.argv;
const { default: Provider } = await import(packagePath);

const accounts = {
  anna: { preferred_username: 'Anna.Berg', name: 'Anna Berg', groups: ['icu-nurses', 'staff'] },
  ben: { preferred_username: 'ben', name: 'Ben', groups: ['staff'] },
  chief: { preferred_username: 'chief', name: 'Chief', groups: ['admins'] },
  nameless: { name: 'Nobody', groups: ['admins'] },
};
let account = 'anna';

const server = http.createServer();
await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
const issuer = `http://127.0.0.1:${server.address().port}`;
const provider = new Provider(issuer, {
  clients: [{
    client_id: 'bedside',
    client_secret: 'secret-of-the-test',
    redirect_uris: [redirect],
    grant_types: ['authorization_code'],
    response_types: ['code'],
  }],
  claims: { openid: ['sub'], profile: ['preferred_username', 'name', 'groups'] },
  conformIdTokenClaims: false,
  cookies: { keys: ['of the test'] },
  features: { devInteractions: { enabled: false } },
  findAccount: (ctx, id) => ({ accountId: id, claims: () => ({ sub: id, ...accounts[id] }) }),
  interactions: { url: (ctx, interaction) => `/interaction/${interaction.uid}` },
  loadExistingGrant: async (ctx) => {
    const grant = new ctx.oidc.provider.Grant({
      clientId: ctx.oidc.client.clientId,
      accountId: ctx.oidc.session.accountId,
    });
    grant.addOIDCScope('openid profile');
    await grant.save();
    return grant;
  },
  pkce: { required: () => true },
});
const callback = provider.callback();
server.on('request', async (request, response) => {
  const [, first, second] = request.url.split('/');
  if (first === 'as') {
    account = second;
    response.end();
  } else if (first === 'interaction') {
    await provider.interactionFinished(request, response, { login: { accountId: account } });
  } else {
    callback(request, response);
  }
});
console.log(issuer);

// A running `bedside` and a browser for the tests of the page.
//
// Settings: BEDSIDE_TEST_PROGRAMS   directory of the built programs; default: debug in the build directory
//           BEDSIDE_TEST_CHROMIUM   the browser; default: /usr/bin/chromium
//           BEDSIDE_TEST_SCREENS    directory for screenshots of all pages; default: none are written
//           BEDSIDE_TEST_PAGE       directory of a built page to use in place of the one in the program
//           BEDSIDE_TEST_NATS_SERVER, BEDSIDE_TEST_MONGODB_SERVER, BEDSIDE_TEST_OIDC_PROVIDER
//                                   servers for the tests of separate services and of OpenID Connect; `scripts/test --tools`
//                                   installs and prints them

import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { createReadStream, existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import { createRequire } from 'node:module';
import net from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const PROGRAMS =
  process.env.BEDSIDE_TEST_PROGRAMS ?? path.join(process.env.CARGO_TARGET_DIR ?? path.join(ROOT, 'target'), 'debug');
export const BEDSIDE = path.join(PROGRAMS, 'bedside');
/** Limit for anything that takes milliseconds on an idle machine. */
export const PATIENCE_MS = 20_000;

/** Runs `bedside` with these arguments and returns what it prints. */
export function bedside(...args) {
  const done = spawnSync(BEDSIDE, args.map(String), { encoding: 'utf8', maxBuffer: 1 << 28 });
  assert.equal(done.status, 0, `bedside ${args.join(' ')}: ${done.stderr}`);
  return done.stdout;
}

/** A synthetic ECG as CSV. */
export function ecg(...args) {
  return Buffer.from(bedside('sample', ...args));
}

/** The password of all accounts of the tests. */
export const PASSWORD = 'correct horse battery';

/** A PNG of one pixel. */
export const PNG = Buffer.from(
  'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg==',
  'base64',
);

/** A process whose output is kept, and what it has printed. */
export class Running {
  constructor(program, args, env = process.env) {
    this.name = path.basename(program);
    this.output = '';
    this.child = spawn(program, args, { env, stdio: ['ignore', 'pipe', 'pipe'] });
    for (const stream of [this.child.stdout, this.child.stderr]) {
      stream.on('data', (text) => {
        this.output = (this.output + text).slice(-50_000);
        this.notify?.();
      });
    }
    this.child.on('error', (error) => (this.output += error));
    this.ended = new Promise((resolve) => {
      for (const event of ['exit', 'error']) this.child.once(event, resolve);
    });
  }

  /** Waits until the output has this number of matches, and returns the first group of each. */
  async printed(pattern, count = 1) {
    const found = () => [...this.output.matchAll(pattern)].map(([, group]) => group);
    const enough = new Promise((resolve) => (this.notify = () => found().length >= count && resolve(true)));
    this.notify();
    const isReady = await Promise.race([enough, this.ended.then(() => false)]);
    this.notify = undefined;
    assert.ok(isReady, `${this.name} has ended:\n${this.output}`);
    return found();
  }

  /** Ends the process at once, as a crash does. */
  async kill() {
    if (this.child.exitCode === null && this.child.signalCode === null && this.child.pid !== undefined) this.child.kill('SIGKILL');
    await this.ended;
  }
}

/** Starts a program of this project and waits until it has printed its addresses. */
async function launch(name, args, addresses) {
  const running = new Running(path.join(PROGRAMS, name), args);
  running.addresses = await running.printed(/listens on (http\S+)/g, addresses);
  return running;
}

/** A file with an access token of the role admin for tests, and the token. */
function tokenFile(folder) {
  const tokens = path.join(folder, 'tokens');
  writeFileSync(tokens, '', { mode: 0o600 });
  const [token] = bedside('token', 'new', 'test', '--role', 'admin', '--file', tokens).trim().split('\n');
  return { tokens, token };
}

/** The standalone program with a data directory of its own. */
export class System {
  program = 'bedside';
  folder = mkdtempSync(path.join(tmpdir(), 'bedside-web-'));
  args = ['--data', path.join(this.folder, 'data'), '--log', 'warn'];

  static async start(...args) {
    const system = new System();
    system.args.push(...args);
    await system.run('127.0.0.1:0');
    return system;
  }

  /**
   * A program that requires a login, with accounts and with the access token `token` of the role admin.
   * `users`: `{ name, role, person }`; each has the password `PASSWORD`.
   */
  static startWithUsers(users, ...args) {
    return System.startAt('127.0.0.1:0', users, ...args);
  }

  /** `startWithUsers` at this address. */
  static async startAt(listen, users, ...args) {
    const system = new System();
    const { tokens, token } = tokenFile(system.folder);
    system.token = token;
    system.args.push('--tokens', tokens, ...args);
    await system.run(listen);
    await system.addUsers(users);
    return system;
  }

  /**
   * Gateway, ingest, query, ecg-worker and alarms as processes, with nats-server and a server of the MongoDB protocol. `kill` and
   * `restart` are those of the gateway. Accounts as in `startWithUsers`.
   */
  static async startServices(users) {
    const system = new System();
    const { folder } = system;
    const { tokens, token } = tokenFile(folder);
    system.token = token;
    system.program = 'gateway';
    system.services = {};
    const secret = (name) => {
      const file = path.join(folder, name);
      writeFileSync(file, `${name}-of-the-tests-0123456789abcdef0123456789abcdef`);
      return file;
    };
    try {
      const [nats, mongodb] = await Promise.all([system.startNats(-1), system.startMongodb()]);
      const bus = ['--nats', `nats://127.0.0.1:${nats}`];
      const store = ['--mongodb', `mongodb://127.0.0.1:${mongodb}/?directConnection=true`, '--database', 'bedside_web'];
      const [listen, admin] = [['--listen', '127.0.0.1:0'], ['--admin-listen', '127.0.0.1:0', '--log', 'warn']];
      const service = async (name, args, addresses) => {
        const running = await launch(name, [...admin, ...args], addresses);
        system.services[name] = running;
        return running.addresses;
      };
      const [[, ingest], [query], [, alarms]] = await Promise.all([
        service('ingest', [...bus, ...store, ...listen, '--token-file', secret('ingest-token')], 2),
        service('query', [...store, ...listen, '--token-file', secret('query-token')], 2),
        service('alarms', [...bus, ...store, ...listen, '--token-file', secret('alarms-token')], 2),
        service('ecg-worker', bus, 1),
      ]);
      system.args = [
        ...admin, ...bus, '--tokens', tokens, '--key-file', secret('key'),
        '--ingest', ingest, '--ingest-token-file', path.join(folder, 'ingest-token'),
        '--query', query, '--query-token-file', path.join(folder, 'query-token'),
        '--alarms', alarms, '--alarms-token-file', path.join(folder, 'alarms-token'),
      ];
      await system.run('127.0.0.1:0');
      await until('all services are ready', async () => {
        const response = await system.fetch('/api/v1/patients').catch(() => undefined);
        return response?.ok;
      }, 60_000);
      await system.addUsers(users);
    } catch (error) {
      await system.stop();
      throw error;
    }
    return system;
  }

  /** Starts the broker, on this port or on a free one, and returns the port. */
  async startNats(port) {
    const config = path.join(this.folder, 'nats.conf');
    const store = JSON.stringify(path.join(this.folder, 'nats'));
    writeFileSync(config, `host: 127.0.0.1\nport: ${port}\njetstream { store_dir: ${store}, max_file_store: 1TB }\n`);
    this.services.nats = new Running(server('BEDSIDE_TEST_NATS_SERVER'), ['--config', config]);
    const [bound] = await this.services.nats.printed(/Listening for client connections on \S+:(\d+)[^]*Server is ready/g);
    return Number(bound);
  }

  async startMongodb() {
    const port = await freePort();
    const args = ['--sync-on-commit', '--host', '127.0.0.1', '--port', port, '--storage-path', path.join(this.folder, 'mongodb')];
    this.services.mongodb = new Running(server('BEDSIDE_TEST_MONGODB_SERVER'), args.map(String));
    await until('the database listens', () =>
      new Promise((resolve) => {
        const socket = net.connect(port, '127.0.0.1', () => resolve(socket.destroy()));
        socket.on('error', () => resolve(undefined));
      }),
    );
    return port;
  }

  async addUsers(users) {
    for (const { name, role, person, wards } of users) {
      await this.call('POST', '/api/v1/users', { name, role, password: PASSWORD, display_name: person ?? name, wards });
    }
  }

  async run(listen) {
    this.process = await launch(this.program, ['--listen', listen, ...this.args], 1);
    [this.gateway] = this.process.addresses;
    this.page ??= process.env.BEDSIDE_TEST_PAGE && (await servePage(process.env.BEDSIDE_TEST_PAGE, () => this.gateway));
    this.url = this.page?.url ?? this.gateway;
  }

  /** Starts another gateway of `startServices`, and returns its address. */
  async startGateway() {
    this.services.gateway = await launch(this.program, ['--listen', '127.0.0.1:0', ...this.args], 1);
    return this.services.gateway.addresses[0];
  }

  /** Ends the program at once, as a crash does. */
  kill() {
    return this.process.kill();
  }

  /** Starts the program again, at the same address and with the same data. */
  async restart() {
    await this.run(new URL(this.gateway).host);
  }

  async stop() {
    await this.process?.kill();
    for (const running of Object.values(this.services ?? {})) await running.kill();
    this.page?.server?.close();
    this.page?.server?.closeAllConnections();
    rmSync(this.folder, { recursive: true, force: true });
  }

  fetch(route, options = {}) {
    const headers = { ...options.headers };
    if (this.token !== undefined) headers.authorization = `Bearer ${this.token}`;
    return fetch(this.gateway + route, { ...options, headers });
  }

  /** Sends JSON as another client. Returns the JSON of the response. */
  async call(method, route, json) {
    const headers = { 'content-type': 'application/json' };
    const response = await this.fetch(route, { method, headers, body: json === undefined ? undefined : JSON.stringify(json) });
    const text = await response.text();
    assert.ok(response.ok, `${method} ${route}: ${response.status} ${text}`);
    return text === '' ? undefined : JSON.parse(text);
  }

  async json(route) {
    const response = await this.fetch(route);
    assert.equal(response.status, 200, route);
    return response.json();
  }

  /** Stores an upload as another client. `files`: kind, name, content. */
  async upload(mrn, name, files = [], fields = {}) {
    const form = new FormData();
    if (name !== undefined) form.append('name', name);
    for (const [field, value] of Object.entries(fields)) form.append(field, value);
    for (const [kind, file, content] of files) form.append(kind, new Blob([content]), file);
    const response = await this.fetch(`/api/v1/patients/${mrn}/uploads`, { method: 'POST', body: form });
    assert.equal(response.status, 201, await response.clone().text());
    return response.json();
  }
}

/** Path of a server that `scripts/test --tools` installs. */
export function server(variable) {
  assert.ok(process.env[variable], `set ${variable}: scripts/test --tools`);
  return process.env[variable];
}

export async function freePort() {
  const listener = net.createServer();
  await new Promise((resolve) => listener.listen(0, '127.0.0.1', resolve));
  const { port } = listener.address();
  await new Promise((resolve) => listener.close(resolve));
  return port;
}

/** Serves a built page with the headers that the gateway gives it, and everything else from the gateway. */
async function servePage(folder, gateway) {
  const types = { html: 'text/html', js: 'text/javascript', css: 'text/css', svg: 'image/svg+xml', png: 'image/png' };
  const own = await fetch(gateway(), { headers: { accept: 'text/html' } });
  const policy = (await own.text()).startsWith('<!doctype html>') && own.headers.get('content-security-policy');
  const server = http.createServer((request, response) => {
    const { pathname } = new URL(request.url, 'http://localhost');
    const isPage = pathname === '/' && (request.headers.accept ?? '').includes('text/html');
    const file = path.join(folder, isPage ? 'index.html' : pathname);
    if (isPage || (pathname !== '/' && existsSync(file) && statSync(file).isFile())) {
      const type = types[path.extname(file).slice(1)] ?? 'application/manifest+json';
      const headers = { 'content-type': type, 'cache-control': 'no-cache' };
      if (policy) headers['content-security-policy'] = policy;
      response.writeHead(200, headers);
      createReadStream(file).pipe(response);
      return;
    }
    const { host, port } = new URL(gateway());
    const headers = { ...request.headers, host };
    if (headers.origin === `http://${request.headers.host}`) headers.origin = gateway();
    const forwarded = http.request({ host: '127.0.0.1', port, path: request.url, method: request.method, headers }, (reply) => {
      response.writeHead(reply.statusCode, reply.headers);
      reply.pipe(response);
      reply.on('aborted', () => response.destroy());
    });
    forwarded.on('error', () => response.destroy());
    response.on('close', () => forwarded.destroy());
    request.pipe(forwarded);
  });
  server.on('upgrade', (request, socket, head) => {
    const { port } = new URL(gateway());
    const upstream = net.connect(Number(port), '127.0.0.1', () => {
      const headers = Object.entries({ ...request.headers, host: `127.0.0.1:${port}`, origin: gateway() });
      upstream.write(`GET ${request.url} HTTP/1.1\r\n${headers.map(([name, value]) => `${name}: ${value}\r\n`).join('')}\r\n`);
      upstream.write(head);
      socket.pipe(upstream).pipe(socket);
    });
    upstream.on('error', () => socket.destroy());
    socket.on('error', () => upstream.destroy());
    socket.on('close', () => upstream.destroy());
    upstream.on('close', () => socket.destroy());
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  const url = `http://127.0.0.1:${server.address().port}`;
  server.unref();
  return { server, url };
}

/** A network between browser and server that can be cut: connections stay open, but nothing arrives any more. */
export async function network(system) {
  const target = new URL(system.url);
  const pairs = new Set();
  let isCut = false;
  const server = net.createServer((client) => {
    const upstream = net.connect(Number(target.port), target.hostname);
    const pair = [client, upstream];
    pairs.add(pair);
    for (const [from, to] of [pair, [...pair].reverse()]) {
      from.on('data', (bytes) => isCut || to.write(bytes));
      from.on('end', () => isCut || to.end());
      from.on('error', () => to.destroy());
      from.on('close', () => {
        pairs.delete(pair);
        if (!isCut) to.destroy();
      });
    }
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    cut: () => (isCut = true),
    /** New connections work; the old ones have lost data and are closed. */
    heal: () => {
      isCut = false;
      for (const pair of pairs) for (const socket of pair) socket.destroy();
    },
    close: () => {
      server.close();
      for (const pair of pairs) for (const socket of pair) socket.destroy();
    },
  };
}

let browser;

/** The browser of all tests. */
export async function launched() {
  browser ??= await chromium.launch({
    executablePath: process.env.BEDSIDE_TEST_CHROMIUM ?? '/usr/bin/chromium',
    args: ['--no-sandbox', '--force-color-profile=srgb'],
  });
  return browser;
}

export async function closeBrowser() {
  await browser?.close();
  browser = undefined;
}

/**
 * Opens the page in a context of its own. `page.problems` lists errors of scripts, violations of the content security policy and
 * dialogs that nobody expects.
 */
export async function open(system, { route = '#/', ...options } = {}) {
  const context = await (await launched()).newContext({
    baseURL: system.url,
    viewport: { width: 1440, height: 900 },
    locale: 'en-GB',
    timezoneId: 'Europe/Vienna',
    reducedMotion: 'reduce',
    ...options,
  });
  context.setDefaultTimeout(PATIENCE_MS);
  const page = await context.newPage();
  page.problems = [];
  page.on('pageerror', (error) => page.problems.push(`error: ${error.message}`));
  page.on('dialog', (dialog) => {
    page.problems.push(`dialog: ${dialog.message()}`);
    void dialog.dismiss();
  });
  page.on('console', (message) => {
    const text = message.text();
    // A request that fails because a test cuts the connection, or that is answered with an error, is no problem of the page.
    if (message.type() === 'error' && !/Failed to load resource|net::ERR_|WebSocket connection/.test(text)) {
      page.problems.push(`console: ${text}`);
    }
  });
  await page.goto(`/${route}`);
  await page.locator('main').waitFor();
  return page;
}

/** A page of another origin in this browser context, which attacks a gateway. */
export async function foreignPage(context, gateway) {
  const other = http.createServer((request, response) => {
    response.writeHead(200, { 'content-type': 'text/html' });
    response.end('<!doctype html><title>Other</title>');
  });
  await new Promise((resolve) => other.listen(0, '127.0.0.1', resolve));
  const page = await context.newPage();
  await page.goto(`http://127.0.0.1:${other.address().port}/`);
  return {
    page,
    /** Sends a request with the cookies of the browser; `fields` are sent as a form. Returns `blocked`, `opaque`, or `read` and the status. */
    attempt: (route, { fields, ...options } = {}) =>
      page.evaluate(
        async ([url, rest, parts]) => {
          const body = parts === undefined ? {} : { body: new FormData() };
          for (const [name, value] of Object.entries(parts ?? {})) body.body.append(name, value);
          try {
            const response = await fetch(url, { credentials: 'include', ...rest, ...body });
            return response.type === 'opaque' ? 'opaque' : `read ${response.status}`;
          } catch {
            return 'blocked';
          }
        },
        [gateway + route, options, fields],
      ),
    /** Opens a WebSocket. Returns `open` or `blocked`. */
    connect: (route) =>
      page.evaluate(
        (url) =>
          new Promise((resolve) => {
            const socket = new WebSocket(url);
            socket.onopen = () => resolve('open');
            socket.onerror = () => resolve('blocked');
          }),
        gateway.replace('http', 'ws') + route,
      ),
    close: () => other.close(),
  };
}

/** Signs in with an account on the page that is open. */
export async function signIn(page, user, password = PASSWORD) {
  await page.getByLabel('User', { exact: true }).fill(user);
  await page.getByLabel('Password', { exact: true }).fill(password);
  await page.getByRole('button', { name: 'Sign in', exact: true }).click();
}

/**
 * Begins to watch for a change of the page. The result is the time of the browser at which `selector` was visible, so that slow
 * requests of the test do not count.
 */
export function seenAt(page, selector) {
  const seen = page.evaluate(
    (wanted) =>
      new Promise((resolve) => {
        const check = () => document.querySelector(wanted) && (observer.disconnect(), resolve(Date.now()));
        const observer = new MutationObserver(check);
        observer.observe(document.body, { childList: true, subtree: true, attributes: true });
        check();
      }),
    selector,
  );
  // A page that is closed before is no failure by itself.
  seen.catch(() => undefined);
  return seen;
}

/** Opens another page of the application in the same tab. */
export async function go(page, route) {
  await page.evaluate((hash) => (window.location.hash = hash), route);
  await page.locator('main h1, main .notice').first().waitFor();
}

const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

/** What axe finds on the page that is serious. */
export function seriousFindings(page) {
  return findings(page, ['serious', 'critical']);
}

/** What axe finds on the page, with all of its default rules. The accessibility category of Lighthouse has a part of these rules. */
export async function findings(page, impacts = ['minor', 'moderate', 'serious', 'critical']) {
  // The policy of the page forbids scripts of others; the protocol of the browser may run them.
  await page.evaluate(AXE);
  const { violations } = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ['violations'] }));
  return violations
    .filter(({ impact }) => impacts.includes(impact))
    .map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.html.slice(0, 150)).slice(0, 3).join(' | ')}`);
}

/** Waits until `check` returns something true, and returns it. */
export async function until(what, check, patience = PATIENCE_MS) {
  const end = Date.now() + patience;
  for (;;) {
    const found = await check();
    if (found) return found;
    assert.ok(Date.now() < end, `${what} did not happen within ${patience} ms`);
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
}

/** All entries of the outbox, read past the page. */
export function outboxEntries(page) {
  return page.evaluate(
    () =>
      new Promise((resolve, reject) => {
        const opening = indexedDB.open('bedside-outbox');
        opening.onerror = () => reject(opening.error);
        opening.onsuccess = () => {
          const database = opening.result;
          if (!database.objectStoreNames.contains('uploads')) return resolve([]);
          const all = database.transaction('uploads').objectStore('uploads').getAll();
          all.onsuccess = () => {
            database.close();
            resolve(all.result.map(({ id, key, mrn, name, rejected }) => ({ id, key, mrn, name, rejected })));
          };
        };
      }),
  );
}

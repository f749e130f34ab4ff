// A real Chromium against the web interface for admins of the real program, with clients over WebTransport and WebSocket
// that give it something to show. Leaves pictures in target/admin-pictures.
import { createHmac } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { LIMIT, SDK, run, start, within } from './harness.mjs';

const PICTURES = process.env.PICTURES ?? '../../target/admin-pictures';
const PASSWORD = 'correct horse battery staple';
const SECRET = 'a secret that must not be seen';
const VIEWS = ['overview', 'channels', 'connections', 'transports', 'actions', 'configuration'];
const CONFIGURATION = {
  admin: { enabled: true, password: PASSWORD, secret: SECRET },
  client: { token: { hmac_secret_key: SECRET } },
  channel: {
    namespaces: [{
      name: 'chat', presence: true, join_leave: true, force_push_join_leave: true, history_size: 100, history_ttl: '10m', force_recovery: true,
      allow_subscribe_for_client: true, allow_publish_for_subscriber: true, allow_presence_for_subscriber: true,
    }, { name: 'prices', history_size: 1, history_ttl: '1h', allow_subscribe_for_client: true, allowed_delta_types: ['fossil'], delta_publish: true }],
  },
};

function token(user) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const text = `${part({ alg: 'HS256', typ: 'JWT' })}.${part({ sub: user, info: { name: user } })}`;
  return `${text}.${createHmac('sha256', SECRET).update(text).digest('base64url')}`;
}

/** A server with the interface, at the prefix. */
async function startAdmin(prefix, more = {}) {
  const file = join(tmpdir(), `gyre-admin-test-${process.pid}.json`);
  const { admin } = CONFIGURATION;
  writeFileSync(file, JSON.stringify({ ...CONFIGURATION, admin: { ...admin, handler_prefix: prefix, ...more } }));
  const server = await start({}, ['--config', file]);
  return { ...server, address: `http://localhost:${server.port}${prefix}/admin/` };
}

/** A page with clients of these users, half of them over WebTransport; `publish(channel, data)` lets the first one speak. */
async function clients(browser, { port }, users) {
  const page = await browser.newPage({ bypassCSP: true });
  await page.goto(`http://localhost:${port}/`);
  await page.addScriptTag({ path: SDK });
  await within(page.evaluate(async ({ port, tokens }) => {
    const { hashes } = await (await fetch('/connection/webtransport/hashes')).json();
    const bytes = (base64) => Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
    const serverCertificateHashes = hashes.map(({ algorithm, value }) => ({ algorithm, value: bytes(value) }));
    const Native = globalThis.WebTransport;
    globalThis.WebTransport = function (url, options) { return new Native(url, { ...options, serverCertificateHashes }); };
    const ways = [{ transport: 'webtransport', endpoint: `https://localhost:${port}/connection/webtransport` }, { transport: 'websocket', endpoint: `ws://localhost:${port}/connection/websocket` }];
    globalThis.clients = await Promise.all(tokens.map(async (token, i) => {
      const client = new Centrifuge([ways[i % 2]], { token });
      const channels = ['chat:lobby', ...(i % 2 ? ['chat:team-red'] : ['prices:eur-usd']), ...(i % 3 ? [] : ['prices:btc-usd'])];
      const subscribed = channels.map((name) => new Promise((resolve) => {
        const subscription = client.newSubscription(name);
        subscription.on('subscribed', resolve);
        subscription.subscribe();
      }));
      client.connect();
      await Promise.all(subscribed);
      return client;
    }));
  }, { port, tokens: users.map(token) }), 'clients');
  return { page, publish: (channel, data) => page.evaluate(([channel, data]) => clients[0].publish(channel, data), [channel, data]) };
}

/** A page that complains about everything a browser complains about. */
async function adminPage(browser, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1360, height: 900 }, colorScheme: 'light', ...options });
  const page = await context.newPage();
  const complaints = [];
  page.on('pageerror', (error) => complaints.push(`error: ${error.message}`));
  page.on('console', (message) => { if (['error', 'warning'].includes(message.type())) complaints.push(message.text()); });
  page.on('request', (request) => { if (!request.url().startsWith('http://localhost:') && !request.url().startsWith('data:')) complaints.push(`asks ${request.url()}`); });
  page.setDefaultTimeout(LIMIT);
  return { context, page, complaints };
}

async function logIn(page, address) {
  await page.goto(address);
  await page.fill('#password', PASSWORD);
  await page.keyboard.press('Enter');
  await page.waitForSelector('nav');
}

const expect = (is, what) => { if (!is) throw new Error(what); };
const text = (page, selector = 'main') => page.locator(selector).first().innerText();

/** Goes to a view and waits until it shows a text. */
async function show(page, hash, words) {
  await page.evaluate((hash) => { location.hash = hash; }, hash);
  await page.waitForFunction((words) => document.querySelector('main').innerText.includes(words), words);
}

/** Something to look at, in every view, and a picture of each. */
async function pictures(page, name, views) {
  mkdirSync(PICTURES, { recursive: true });
  for (const [view, hash, words] of views) {
    await show(page, hash, words);
    await page.waitForTimeout({ overview: 14000, transports: 3000 }[view] ?? 500);
    const width = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    expect(width <= 0, `${name} ${view} is ${width} pixels too wide`);
    await page.screenshot({ path: join(PICTURES, `${name}-${view}.png`), fullPage: !name.startsWith('phone') });
  }
}

const ALL_VIEWS = [
  ['overview', '#/overview', 'Open connections'], ['channels', '#/channels', 'chat:lobby'], ['channel', '#/channel/chat%3Alobby', 'always, stream'],
  ['connections', '#/connections', 'webtransport'], ['user', '#/user/ada', 'Activity'], ['transports', '#/transports', 'Round trip'],
  ['actions', '#/actions?method=publish', 'Send publish'], ['configuration', '#/configuration', 'namespaces[chat]'],
];

const tests = {
  'whoever has not the password sees nothing, whoever has it everything, and no browser complains': async (browser) => {
    const server = await startAdmin('/ops');
    const crowd = await clients(browser, server, ['ada', 'grace', 'edsger', 'barbara', 'linus', 'radia', 'vint']);
    const { context, page, complaints } = await adminPage(browser);
    try {
      for (const path of ['state', 'configuration', 'channel?channel=chat:lobby', 'trace?channel=chat:lobby']) {
        const { status } = await fetch(server.address + path);
        expect(status === 401, `${path} without a login: ${status}`);
      }
      await page.goto(`http://localhost:${server.port}/ops`);
      await page.waitForSelector('#password');
      expect(page.url() === server.address, `the way leads to ${page.url()}`);
      await page.fill('#password', 'wrong');
      await page.keyboard.press('Enter');
      await page.waitForSelector('.notice.bad:not([hidden])');
      expect(complaints.splice(0).every((line) => line.includes('400')), 'more than the refused login was complained about');
      mkdirSync(PICTURES, { recursive: true });
      await page.screenshot({ path: join(PICTURES, 'light-login.png') });
      await page.fill('#password', PASSWORD);
      await page.keyboard.press('Enter');
      await page.waitForSelector('nav');

      // Each view by its key alone, with the focus where it can be read on.
      for (const [i, view] of VIEWS.entries()) {
        await page.keyboard.press(String(i + 1));
        await page.waitForFunction((view) => document.querySelector('nav a[aria-current]')?.dataset.view === view, view);
        expect(await page.evaluate(() => document.activeElement.tagName) === 'H1', `${view}: the focus is elsewhere`);
      }
      // The whole menu and a form by Tab and Enter.
      await page.keyboard.press('1');
      await page.focus('.brand');
      const reached = new Set();
      for (let i = 0; i < 16; i++) {
        await page.keyboard.press('Tab');
        reached.add(await page.evaluate(() => document.activeElement.dataset?.view ?? document.activeElement.getAttribute('aria-label')));
      }
      expect([...VIEWS, 'Keys', 'Light or dark', 'Log out'].every((name) => reached.has(name)), `Tab reached ${[...reached]}`);

      await show(page, '#/channels', 'chat:lobby');
      expect((await text(page)).includes('prices:eur-usd'), 'a channel is missing');
      await page.keyboard.press('/');
      await page.keyboard.type('chat:*');
      await page.keyboard.press('Enter');
      await page.waitForFunction(() => !document.querySelector('main').innerText.includes('prices:'));
      await page.click('text=chat:lobby');
      await page.waitForSelector('.live.live:not(.waiting)');
      await page.waitForFunction(() => document.querySelector('main').innerText.includes('edsger'));
      // A client's publication arrives live, so does one made here.
      await crowd.publish('chat:lobby', { text: 'from a client', n: 1 });
      await page.waitForFunction(() => document.querySelector('.feed').innerText.includes('from a client'));
      await page.fill('textarea', '{"text": "from the interface"}');
      await page.focus('textarea');
      await page.keyboard.press('Control+Enter');
      await page.waitForFunction(() => document.querySelector('.feed').innerText.includes('from the interface'));
      await page.waitForFunction(() => document.querySelector('main').innerText.includes('Published at offset 2'));
      await page.locator('section[aria-label=History] >> text=Refresh').click();
      await page.waitForFunction(() => document.querySelector('.feed.still')?.innerText.includes('from a client'));
      // A join and a leave as well.
      await crowd.page.evaluate(() => clients[2].getSubscription('chat:lobby').unsubscribe());
      await page.waitForFunction(() => [...document.querySelectorAll('.feed .badge')].some((badge) => badge.innerText === 'leave'));
      await crowd.page.evaluate(() => clients[2].getSubscription('chat:lobby').subscribe());

      await show(page, '#/user/ada', 'Activity');
      await page.waitForSelector('.live.live:not(.waiting)');
      await crowd.publish('chat:lobby', { text: 'watched' });
      await page.waitForFunction(() => document.querySelector('.feed').innerText.includes('watched'));

      await show(page, '#/connections?user=grace', '1 connected');
      await page.click('text=Disconnect');
      await page.locator('dialog >> text=Disconnect').last().click();
      await page.waitForFunction(() => document.querySelector('main').innerText.includes('No connection matches'));

      await show(page, '#/actions?method=presence_stats', 'Send presence_stats');
      await page.fill('input[name=channel]', 'chat:lobby');
      await page.click('text=Send presence_stats');
      await page.waitForFunction(() => document.querySelector('.reply').innerText.includes('num_clients'));

      await show(page, '#/transports', 'Round trip');
      await page.waitForFunction(() => /127\.0\.0\.1:|\[::1\]:/.test(document.querySelector('main').innerText));

      await show(page, '#/configuration', 'channel.namespaces[chat].presence');
      await page.uncheck('input[type=checkbox]');
      await page.waitForFunction(() => document.querySelector('main').innerText.includes('client.pong_timeout'));
      const shown = await page.evaluate(() => fetch('configuration', { headers: { Authorization: `token ${sessionStorage.getItem('gyre.token')}` } }).then((r) => r.text()));
      expect(!shown.includes(SECRET) && !shown.includes(PASSWORD) && shown.includes('••••'), 'a secret is shown');
      await page.click('[aria-label="Log out"]');
      await page.waitForSelector('#password');
      expect(complaints.length === 0, complaints.join('; '));
    } finally { await context.close(); await crowd.page.close(); await server.stop(); }
  },

  'pictures: light, dark and on a phone': async (browser) => {
    const server = await startAdmin('');
    const crowd = await clients(browser, server, ['ada', 'grace', 'edsger', 'barbara', 'linus', 'radia', 'vint', 'donald', 'margaret', 'tim', 'ada', 'leslie']);
    let n = 0;
    const words = ['shall we ship it?', 'the tests are green', 'then yes', 'deployed to the first region', 'latency looks fine', 'p99 is 4 ms'];
    const talk = setInterval(() => {
      const [text, from] = [words[n % words.length], ['ada', 'grace', 'edsger'][n % 3]];
      crowd.publish('chat:lobby', { from, text, n: n++ }).catch(() => {});
      server.api('publish', { channel: 'prices:eur-usd', data: { bid: 1.08 + (n % 7) / 1000, at: n } }).catch(() => {});
      if (n % 13 === 0) server.api('disconnect', { user: ['radia', 'edsger', 'tim'][n % 3], disconnect: { code: 4000 + (n % 3), reason: 'moved' } }).catch(() => {});
      if (n % 9 === 0) crowd.page.evaluate((i) => { clients[i].disconnect(); clients[i].connect(); }, n % 12).catch(() => {});
    }, 300);
    try {
      for (const [name, options] of Object.entries({
        light: {}, dark: { colorScheme: 'dark' },
        phone: { viewport: { width: 360, height: 780 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true },
        'phone-dark': { viewport: { width: 360, height: 780 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true, colorScheme: 'dark', reducedMotion: 'reduce' },
      })) {
        const { context, page, complaints } = await adminPage(browser, options);
        await logIn(page, server.address);
        await pictures(page, name, name === 'phone-dark' ? ALL_VIEWS.slice(0, 3) : ALL_VIEWS);
        expect(complaints.length === 0, `${name}: ${complaints.join('; ')}`);
        await context.close();
      }
      console.log(`        pictures are in ${PICTURES}`);
    } finally { clearInterval(talk); await crowd.page.close(); await server.stop(); }
  },

  'without a login where the configuration says so, and not for pages of other sites': async (browser) => {
    const server = await startAdmin('', { insecure: true, password: '', secret: '' });
    const { context, page, complaints } = await adminPage(browser);
    try {
      await page.goto(server.address);
      await page.waitForSelector('.insecure');
      const { status } = await fetch(`${server.address}api`, { method: 'POST', headers: { 'Sec-Fetch-Site': 'cross-site' }, body: '{"method":"info"}' });
      expect(status === 403, `a foreign page got ${status}`);
      expect(complaints.length === 0, complaints.join('; '));
    } finally { await context.close(); await server.stop(); }
  },
};

await run(tests);

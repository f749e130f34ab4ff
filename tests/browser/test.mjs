// A real Chromium against the real program in development mode: the demo page, the unmodified `centrifuge` package over
// WebTransport and over the fallback, and disconnect advice.
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import net from 'node:net';

import { LIMIT, SDK, freePort, run, start, within } from './harness.mjs';

/**
 * Forwards TCP from `port` to the server and takes UDP there without an answer, like a firewall; resolves to its end, which
 * tells how many connections there were.
 */
async function withoutUdp(port, target) {
  const silent = createSocket('udp4').bind(port, '127.0.0.1');
  let connections = 0;
  const forward = net.createServer((client) => {
    connections++;
    const server = net.connect(target, '127.0.0.1');
    client.pipe(server).pipe(client);
    for (const [one, other] of [[client, server], [server, client]]) one.on('error', () => other.destroy());
  }).listen(port, '127.0.0.1');
  await once(forward, 'listening');
  return { connections: () => connections, end: () => { silent.close(); forward.close(); } };
}

/** Opens the demo page and waits until it shows a message of the clock; returns what it says. */
async function demoPage(browser, address) {
  // The SDK is put into the page by the test, which the page's own policy would not allow.
  const page = await browser.newPage({ bypassCSP: true });
  page.on('pageerror', (error) => console.error('page error:', error.message));
  await page.goto(`http://${address}/`);
  await page.waitForFunction(() => document.body.innerText.includes('unix_ms'), null, { timeout: LIMIT });
  return { page, text: await page.evaluate(() => document.body.innerText) };
}

/** Connects the SDK inside the page, with the certificate pinned as the page's snippet says. */
async function connectSdk(page, port) {
  await page.addScriptTag({ path: SDK });
  return page.evaluate(async (port) => {
    const document = await (await fetch('/connection/webtransport/hashes')).json();
    const bytes = (base64) => Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
    const serverCertificateHashes = document.hashes.map(({ algorithm, value }) => ({ algorithm, value: bytes(value) }));
    const Native = globalThis.WebTransport;
    globalThis.WebTransport = function (url, options) { return new Native(url, { ...options, serverCertificateHashes }); };
    const client = new Centrifuge([
      { transport: 'webtransport', endpoint: `https://localhost:${port}/connection/webtransport` },
      { transport: 'websocket', endpoint: `ws://localhost:${port}/connection/websocket` },
    ]);
    globalThis.seen = [];
    globalThis.ended = new Promise((resolve) => client.on('disconnected', ({ code, reason }) => resolve({ code, reason })));
    const connected = new Promise((resolve) => client.on('connected', resolve));
    const subscription = client.newSubscription('demo:sdk');
    subscription.on('publication', ({ data }) => seen.push(data));
    const subscribed = new Promise((resolve) => subscription.on('subscribed', resolve));
    subscription.subscribe();
    client.connect();
    await subscribed;
    return (await connected).transport;
  }, port);
}

const tests = {
  'the demo page receives over WebTransport': async (browser) => {
    const server = await start();
    try {
      const { text } = await demoPage(browser, `localhost:${server.port}`);
      console.log(`        a message ${Date.now() - server.startedAt} ms after the server was started`);
      if (!/WebTransport/.test(text) || /fell back|fallback/i.test(text.split('In your own page')[0])) {
        throw new Error(`the page says: ${text.slice(0, 300)}`);
      }
    } finally { await server.stop(); }
  },

  'the page falls back to WebSocket where UDP is closed or switched off and says why': async (browser) => {
    const firewalled = await freePort();
    const cases = {
      closed: { GYRE_CLIENT_ALLOWED_ORIGINS: `http://127.0.0.1:${firewalled}` },
      'switched off': { GYRE_HTTP_SERVER_HTTP3_ENABLED: 'false', GYRE_WEBTRANSPORT_ENABLED: 'false' },
    };
    for (const [name, environment] of Object.entries(cases)) {
      const server = await start(environment);
      const end = name === 'closed' ? (await withoutUdp(firewalled, server.port)).end : () => {};
      try {
        const address = name === 'closed' ? `127.0.0.1:${firewalled}` : `localhost:${server.port}`;
        const { page, text } = await demoPage(browser, address);
        const [transport, reason] = await page.evaluate(
          () => ['transport', 'fallback'].map((id) => document.getElementById(id).innerText));
        if (transport !== 'WebSocket' || !reason.includes('No WebTransport: ')) throw new Error(`${name}: the page says: ${text.slice(0, 300)}`);
        console.log(`        ${name}: ${reason}`);
        await page.close();
      } finally { end(); await server.stop(); }
    }
  },

  'a WebSocket shares the HTTP/2 connection of its page': async (browser) => {
    const port = await freePort();
    const server = await start({
      GYRE_CLIENT_ALLOWED_ORIGINS: `https://127.0.0.1:${port}`,
      GYRE_HTTP_SERVER_HTTP3_ENABLED: 'false',
      GYRE_WEBTRANSPORT_ENABLED: 'false',
    });
    const forward = await withoutUdp(port, server.port);
    const context = await browser.newContext({ ignoreHTTPSErrors: true });
    try {
      const page = await context.newPage();
      await page.goto(`https://127.0.0.1:${port}/connection/init`);
      const before = forward.connections();
      const replies = await within(page.evaluate(() => Promise.all(['a', 'b', 'c'].map((name) => new Promise((resolve, reject) => {
        const socket = new WebSocket(`wss://${location.host}/connection/websocket`);
        socket.onopen = () => socket.send(JSON.stringify({ id: 1, connect: { name } }));
        socket.onmessage = ({ data }) => resolve(data);
        socket.onclose = ({ code, reason }) => reject(new Error(`closed with ${code} ${reason}`));
      })))), 'reply');
      if (!replies.every((reply) => reply.startsWith('{"id":1,"connect":{'))) throw new Error(`replies: ${replies}`);
      const opened = forward.connections() - before;
      if (opened !== 0) throw new Error(`${opened} connections for ${replies.length} WebSockets`);
    } finally { await context.close(); forward.end(); await server.stop(); }
  },

  'the SDK receives 200 messages in order, and the advice of a disconnect': async (browser) => {
    const server = await start();
    try {
      const { page } = await demoPage(browser, `localhost:${server.port}`);
      const transport = await connectSdk(page, server.port);
      if (transport !== 'webtransport') throw new Error(`connected over ${transport}`);
      for (let i = 0; i < 200; i++) await server.api('publish', { channel: 'demo:sdk', data: { i, text: 'gyre ⟳' } });
      await page.waitForFunction(() => seen.length >= 200, null, { timeout: LIMIT });
      const order = await page.evaluate(() => seen.map(({ i }) => i).join());
      if (order !== Array.from({ length: 200 }, (_, i) => i).join()) throw new Error(`order: ${order}`);
      await server.api('disconnect', { user: '', disconnect: { code: 4501, reason: 'за работу' } });
      const ended = await within(page.evaluate(() => ended), 'disconnect');
      if (ended.code !== 4501 || ended.reason !== 'за работу') throw new Error(`advice: ${JSON.stringify(ended)}`);
    } finally { await server.stop(); }
  },
};

await run(tests);

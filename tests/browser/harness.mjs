// What browser tests share: the program in development mode, a real Chromium, and a report.
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { chromium } from 'playwright-core';

const PROGRAM = process.env.GYRE ?? '../../target/release/gyre';
export const SDK = 'node_modules/centrifuge/dist/centrifuge.js';
export const LIMIT = 15000;

export const within = (promise, what) =>
  Promise.race([promise, new Promise((_, reject) => setTimeout(() => reject(new Error(`no ${what} in ${LIMIT} ms`)), LIMIT))]);

export function freePort() {
  return new Promise((resolve) => {
    const probe = net.createServer().listen(0, '127.0.0.1', () => {
      const { port } = probe.address();
      probe.close(() => resolve(port));
    });
  });
}

/** Starts a development server; resolves with its port and API key once it prints its banner. */
export async function start(environment = {}, flags = []) {
  const port = await freePort();
  const state = mkdtempSync(join(tmpdir(), 'gyre-browser-test-'));
  const startedAt = Date.now();
  const child = spawn(PROGRAM, ['--dev', '--http_server.port', String(port), ...flags], {
    env: { ...process.env, XDG_STATE_HOME: state, ...environment },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let output = '';
  const banner = new Promise((resolve, reject) => {
    child.stdout.on('data', (data) => {
      output += data;
      const key = /X-API-Key: (\S+)'/.exec(output)?.[1];
      if (key && output.includes('centrifuge.connect()')) resolve(key);
    });
    child.on('exit', (code) => reject(new Error(`the server ended with ${code}`)));
  });
  const key = await within(banner, 'banner');
  const stop = () => new Promise((resolve) => {
    child.removeAllListeners('exit');
    child.on('exit', () => { rmSync(state, { recursive: true, force: true }); resolve(); });
    child.kill('SIGTERM');
  });
  const api = async (method, body) => {
    const response = await fetch(`http://127.0.0.1:${port}/api/${method}`, {
      method: 'POST', headers: { 'X-API-Key': key }, body: JSON.stringify(body),
    });
    const answer = await response.json();
    if (!answer.result) throw new Error(`${method}: ${JSON.stringify(answer)}`);
    return answer.result;
  };
  return { port, api, stop, startedAt };
}

/** Runs tests by name, each with the browser; ends the process. */
export async function run(tests) {
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    headless: true,
    args: ['--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking', '--disable-component-update',
      '--disable-sync'],
  });
  let failed = 0;
  for (const [name, test] of Object.entries(tests)) {
    try {
      await test(browser);
      console.log(`ok      ${name}`);
    } catch (error) {
      failed++;
      console.log(`FAILED  ${name}: ${error.message}`);
    }
  }
  await browser.close();
  console.log(`${Object.keys(tests).length - failed} passed, ${failed} failed`);
  process.exit(failed === 0 ? 0 : 1);
}

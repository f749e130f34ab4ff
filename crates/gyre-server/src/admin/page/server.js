// What this page asks of the server it came from, and nobody else.

const KEY = 'gyre.token';
const INTERVAL = 1000;
/** Five minutes of figures are kept for charts. */
const SAMPLES_MAX = 300;

export class ServerError extends Error {
  constructor(message, code, status) {
    super(message);
    Object.assign(this, { code, status });
  }
}

/** Called when a login is needed. */
export const login = { needed: () => {} };

export const token = {
  get: () => sessionStorage.getItem(KEY) ?? localStorage.getItem(KEY),
  keep(value, isLong) { (isLong ? localStorage : sessionStorage).setItem(KEY, value); },
  forget() { sessionStorage.removeItem(KEY); localStorage.removeItem(KEY); },
};

const headers = () => (token.get() ? { Authorization: `token ${token.get()}` } : {});

async function ask(path, options = {}) {
  let response;
  try {
    response = await fetch(path, { cache: 'no-store', ...options, headers: headers() });
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    throw new ServerError('The server cannot be reached.', 0, 0);
  }
  if (response.status === 401) {
    token.forget();
    login.needed();
    throw new ServerError('The login has expired.', 0, 401);
  }
  if (!response.ok) throw new ServerError((await response.text()).trim() || `The server answered with ${response.status}.`, 0, response.status);
  return response;
}

/** A document of the web interface. */
export async function view(name, query, signal) {
  const text = query ? `?${new URLSearchParams(query)}` : '';
  return (await ask(`${name}${text}`, { signal })).json();
}

/** A method of the server API, and its reply as it came. */
export async function reply(method, params) {
  const response = await ask('api', { method: 'POST', body: JSON.stringify({ method, params }) });
  return response.text();
}

/** The result of a method of the server API. */
export async function call(method, params = {}) {
  const { result, error } = JSON.parse(await reply(method, params));
  if (error) throw new ServerError(`${error.message} (${error.code})`, error.code, 200);
  return result;
}

export const init = async () => (await fetch('init', { cache: 'no-store', headers: headers() })).json();

/** Logs in; throws what to tell the user. */
export async function logIn(password, isLong) {
  const response = await fetch('auth', { method: 'POST', body: new URLSearchParams({ password }) });
  if (response.status === 429) throw new Error('Too many attempts. Wait a moment and try again.');
  if (!response.ok) throw new Error('That is not the password.');
  token.keep((await response.json()).token, isLong);
}

/** Live events until the signal; comes back by itself. `status` is told `live` or `waiting`. */
export async function trace(query, { signal, event, status }) {
  for (let pause = 500; !signal.aborted; pause = Math.min(pause * 2, 10000)) {
    try {
      const { body } = await ask(`trace?${new URLSearchParams(query)}`, { signal });
      const reader = body.pipeThrough(new TextDecoderStream()).getReader();
      let rest = '';
      for (;;) {
        const { value, done } = await reader.read();
        if (done) break;
        status('live');
        pause = 250;
        const blocks = (rest + value).split('\n\n');
        rest = blocks.pop();
        for (const block of blocks) if (block.startsWith('data: ')) event(JSON.parse(block.slice(6)));
      }
    } catch (error) {
      if (signal.aborted || error.status === 401) return;
      if (error.status >= 400 && error.status < 500) return status('failed', error.message);
    }
    status('waiting');
    await new Promise((resolve) => setTimeout(resolve, pause));
  }
}

/** Figures of the node, asked for while somebody looks at them. */
export const figures = {
  samples: [],
  watchers: new Set(),
  error: null,
  timer: 0,
  watch(signal, watcher) {
    this.watchers.add(watcher);
    signal.addEventListener('abort', () => this.watchers.delete(watcher));
    if (this.samples.length) watcher(this.samples);
    this.start();
  },
  start() {
    if (this.timer || document.hidden) return;
    this.timer = setTimeout(() => this.take(), this.samples.length ? INTERVAL : 0);
  },
  async take() {
    try {
      const sample = await view('state');
      const last = this.samples.at(-1);
      // A server that was started anew counts from nothing.
      if (last && last.node.uid !== sample.node.uid) this.samples.length = 0;
      if (last?.time !== sample.time) this.samples.push(sample);
      if (this.samples.length > SAMPLES_MAX) this.samples.shift();
      this.error = null;
    } catch (error) {
      this.error = error;
    }
    this.timer = 0;
    for (const watcher of this.watchers) watcher(this.samples, this.error);
    if (this.error?.status !== 401) this.start();
  },
  forget() { clearTimeout(this.timer); this.timer = 0; this.samples.length = 0; this.watchers.clear(); },
};
document.addEventListener('visibilitychange', () => { if (!document.hidden && figures.watchers.size) figures.start(); });

/** The change of a counter each second, between samples. */
export function rates(samples, figure) {
  return samples.map((sample, i) => {
    if (i === 0) return null;
    const [before, seconds] = [figure(samples[i - 1]), (sample.time - samples[i - 1].time) / 1000];
    const now = figure(sample);
    return before === null || now === null || seconds <= 0 ? null : Math.max(0, (now - before) / seconds);
  });
}

/** What a code of the protocol means. */
export const CODES = {
  2000: 'unsubscribed by the server', 2500: 'insufficient state', 2501: 'subscription expired',
  3000: 'left by itself', 3001: 'server shut down', 3004: 'server error', 3005: 'connection expired', 3006: 'subscription expired',
  3008: 'too slow', 3009: 'write error', 3010: 'insufficient state', 3011: 'force reconnect', 3012: 'no pong', 3013: 'too many requests', 3014: 'state invalidated',
  3500: 'invalid token', 3501: 'bad request', 3502: 'did not connect in time', 3503: 'force disconnect', 3504: 'connection limit',
  3505: 'channel limit', 3506: 'inappropriate protocol', 3507: 'permission denied', 3508: 'not available', 3509: 'too many errors',
  100: 'internal error', 101: 'unauthorized', 102: 'unknown channel', 103: 'permission denied', 104: 'method not found', 105: 'already subscribed',
  106: 'limit exceeded', 107: 'bad request', 108: 'not available', 109: 'token expired', 110: 'expired', 111: 'too many requests', 112: 'unrecoverable position',
};

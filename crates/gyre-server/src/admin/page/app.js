// The frame around the views: login, navigation, theme, keys.
import actions from './actions.js';
import { channel, channels } from './channels.js';
import configuration from './configuration.js';
import { connections, user } from './connections.js';
import { h, icon } from './dom.js';
import overview from './overview.js';
import { figures, init, logIn, login, token } from './server.js';
import transports from './transports.js';

const VIEWS = { overview, channels, channel, connections, user, transports, actions, configuration };
const MENU = ['overview', 'channels', 'connections', 'transports', 'actions', 'configuration'];
/** Which entry of the menu a view belongs to. */
const UNDER = { channel: 'channels', user: 'connections' };

const app = document.getElementById('app');
let leave = new AbortController();
let isInsecure = false;
let main;

function route() {
  const [path, query] = location.hash.replace(/^#\/?/, '').split('?');
  const [name, ...rest] = path.split('/');
  let parameter = '';
  try { parameter = decodeURIComponent(rest.join('/')); } catch { /* What is no text names nothing. */ }
  const isKnown = name in VIEWS && !(name === 'channel' && !parameter);
  return { view: isKnown ? name : 'overview', name: parameter, query: new URLSearchParams(query) };
}

function go(hash, isSame = false) {
  if (isSame) return history.replaceState(null, '', hash);
  if (location.hash === hash) show(); else location.hash = hash;
}

function show() {
  if (!main) return;
  leave.abort();
  leave = new AbortController();
  const at = route();
  const view = VIEWS[at.view];
  main.replaceChildren();
  view.mount(main, { ...at, go }, leave.signal);
  document.title = `${at.name || view.title} · Gyre`;
  for (const entry of app.querySelectorAll('nav a')) {
    if (entry.dataset.view === (UNDER[at.view] ?? at.view)) entry.setAttribute('aria-current', 'page'); else entry.removeAttribute('aria-current');
  }
  scrollTo(0, 0);
  main.querySelector('h1')?.focus({ preventScroll: true });
}

function switchTheme() {
  const root = document.documentElement;
  const isDark = root.dataset.theme ? root.dataset.theme === 'dark' : matchMedia('(prefers-color-scheme: dark)').matches;
  root.dataset.theme = isDark ? 'light' : 'dark';
  localStorage.setItem('gyre.theme', root.dataset.theme);
}

function help() {
  const keys = [['1 – 6', 'the views, in the order of the menu'], ['/', 'search field of the view'], ['t', 'light or dark'], ['?', 'this list'], ['← →', 'read a focused chart'], ['Ctrl Enter', 'publish']];
  const dialog = h('dialog', { class: 'dialog', 'aria-label': 'Keys', onclose: () => dialog.remove() }, h('h2', {}, 'Keys'),
    h('dl', { class: 'facts' }, keys.map(([key, text]) => h('div', {}, h('dt', {}, h('kbd', {}, key)), h('dd', {}, text)))),
    h('div', { class: 'row end' }, h('button', { type: 'button', autofocus: true, onclick: () => dialog.close() }, 'Close')));
  document.body.append(dialog);
  dialog.showModal();
}

document.addEventListener('keydown', (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest('input, textarea, select, dialog') || !main) return;
  if (event.key >= '1' && event.key <= String(MENU.length)) go(`#/${MENU[event.key - 1]}`);
  else if (event.key === 't') switchTheme();
  else if (event.key === '?') help();
  else if (event.key === '/' && main.querySelector('[data-search]')) { main.querySelector('[data-search]').focus(); event.preventDefault(); }
});

function frame() {
  const name = h('span', { class: 'node-name' });
  const tool = (label, symbol, onclick) => h('button', { type: 'button', class: 'tool', 'aria-label': label, title: label, onclick }, icon(symbol));
  main = h('main', { id: 'main', tabindex: '-1' });
  const entry = (id) => h('a', { href: `#/${id}`, 'data-view': id }, icon(id), VIEWS[id].short && h('span', { class: 'short' }, VIEWS[id].short), h('span', { class: VIEWS[id].short ? 'long' : null }, VIEWS[id].title));
  app.replaceChildren(h('div', { class: 'frame' },
    h('header', { class: 'topbar' },
      h('a', { class: 'brand', href: '#/overview', 'aria-label': 'Gyre, overview' }, icon('mark'), h('span', {}, 'Gyre')), name, h('span', { class: 'grow' }),
      tool('Keys', 'help', help), tool('Light or dark', 'theme', switchTheme),
      !isInsecure && tool('Log out', 'leave', () => { token.forget(); showLogin(); })),
    h('nav', { 'aria-label': 'Views' }, MENU.map(entry)), main,
    isInsecure && h('p', { class: 'insecure', role: 'note' }, 'admin.insecure is on: everybody who reaches this page may do everything.')));
  figures.watch(new AbortController().signal, (samples) => { name.textContent = samples.at(-1)?.node.name ?? ''; });
  show();
}

function showLogin() {
  leave.abort();
  figures.forget();
  main = null;
  const password = h('input', { type: 'password', id: 'password', autocomplete: 'current-password', required: true });
  const keep = h('input', { type: 'checkbox', id: 'keep' });
  const said = h('p', { class: 'notice bad', role: 'alert', hidden: true });
  const submit = async (event) => {
    event.preventDefault();
    said.hidden = true;
    try {
      await logIn(password.value, keep.checked);
      frame();
    } catch (error) {
      said.textContent = error.message;
      said.hidden = false;
      password.select();
    }
  };
  document.title = 'Log in · Gyre';
  app.replaceChildren(h('main', { id: 'main', class: 'login' }, h('form', { class: 'card', onsubmit: submit },
    h('div', { class: 'brand big' }, icon('mark'), h('h1', {}, 'Gyre')),
    h('div', { class: 'field' }, h('label', { for: 'password' }, 'Password'), password),
    h('div', { class: 'field check' }, h('label', { for: 'keep' }, 'Stay logged in on this device'), keep),
    said, h('button', {}, 'Log in'))));
  password.focus();
}

login.needed = showLogin;
addEventListener('hashchange', (event) => { if (!event.newURL.endsWith('#main')) show(); });
try {
  const { authenticated, insecure } = await init();
  isInsecure = insecure;
  if (authenticated) frame(); else showLogin();
} catch {
  app.replaceChildren(h('main', { id: 'main', class: 'login' }, h('p', { class: 'notice bad', role: 'alert' }, 'The server cannot be reached.')));
}

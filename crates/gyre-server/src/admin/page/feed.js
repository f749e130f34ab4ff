// A list of live events: pause, filter, clear.
import { badge, clock, h, json, link, number } from './dom.js';
import { CODES, trace } from './server.js';

const KEPT = 300;

function summary(event) {
  const push = event.push;
  if (push?.pub) return ['publication', 'good', [push.pub.offset ? `offset ${push.pub.offset} ` : '', by(push.pub.info)], push.pub];
  for (const [name, kind] of [['join', 'info'], ['leave', 'quiet']]) if (push?.[name]) return [name, kind, by(push[name].info, ''), about(push[name].info)];
  if (push) return [`push ${Object.keys(push).find((name) => name !== 'channel')}`, 'info', push.channel ?? '', push];
  const code = event.code === undefined ? '' : `${event.code} ${event.reason || CODES[event.code] || ''}`;
  switch (event.type) {
    case 'missed': return ['left out', 'warn', `${number(event.count)} events came faster than they could be shown`];
    case 'lost': return ['lost', 'bad', 'events were lost on the way to this node'];
    case 'command': return [event.command, 'info', event.subject, event.data];
    case 'refused': return [`${event.command} refused`, 'bad', code];
    case 'disconnected': return ['disconnected', 'warn', code];
    default: return [event.type, 'good', event.subject ?? ''];
  }
}

/** What is known of a client besides user and id. */
function about({ conn_info: connection, chan_info: subscription } = {}) {
  if (connection === undefined || subscription === undefined) return connection ?? subscription;
  return { conn_info: connection, chan_info: subscription };
}

/** Who published, if a client did. */
export const by = (info, word = 'by ') => (info ? h('span', {}, word, h('a', { href: link.user(info.user ?? '') }, info.user || 'anonymous'), h('span', { class: 'mono' }, ` ${(info.client ?? '').slice(0, 8)}`)) : '');

function content(detail) {
  if (detail === undefined || detail === null) return null;
  const isPublication = typeof detail === 'object' && 'data' in detail;
  const shown = isPublication ? detail.data : detail;
  const more = isPublication ? Object.entries(detail).filter(([name]) => !['data', 'offset', 'epoch', 'info'].includes(name)) : [];
  return h('div', { class: 'feed-data' }, json(shown), more.map(([name, value]) => h('div', { class: 'feed-more' }, `${name} `, json(value))));
}

/** The list for a channel or user, until the signal. */
export function feed(query, signal, { title = 'Live', note } = {}) {
  const list = h('ol', { class: 'feed', role: 'log', tabindex: '0', 'aria-label': title });
  const state = h('span', { class: 'live waiting' }, h('i', {}), h('span', {}, 'connecting'));
  const count = h('span', { class: 'muted' }, '');
  let [isPaused, seen, held] = [false, 0, []];
  const filter = h('input', { type: 'search', placeholder: 'Filter', 'aria-label': 'Show only events with this text', autocomplete: 'off', oninput: () => {
    for (const item of list.children) item.hidden = !matches(item);
  } });
  const matches = (item) => !filter.value || item.textContent.toLowerCase().includes(filter.value.toLowerCase());
  const pause = h('button', { type: 'button', class: 'quiet', 'aria-pressed': 'false', onclick: () => {
    isPaused = !isPaused;
    pause.textContent = isPaused ? 'Resume' : 'Pause';
    pause.setAttribute('aria-pressed', isPaused);
    if (!isPaused) { held.forEach(add); held = []; }
  } }, 'Pause');
  const clear = h('button', { type: 'button', class: 'quiet', onclick: () => { list.replaceChildren(); seen = 0; count.textContent = ''; } }, 'Clear');

  const add = (event) => {
    const [name, kind, text, detail] = summary(event);
    const item = h('li', {}, h('time', {}, clock(event.time ?? Date.now())), badge(name, kind),
      h('span', { class: 'feed-text' }, text, event.client && h('span', { class: 'muted mono' }, ` ${event.client.slice(0, 8)} ${event.transport}`)), content(detail));
    item.hidden = !matches(item);
    list.prepend(item);
    if (list.children.length > KEPT) list.lastChild.remove();
    count.textContent = `${number(++seen)} so far`;
  };
  trace(query, {
    signal,
    event: (event) => { if (!isPaused) add(event); else if (held.length < KEPT) held.push(event); },
    status: (name, text) => {
      state.className = `live ${name}`;
      state.lastChild.textContent = { live: 'live', waiting: 'reconnecting', failed: text }[name];
    },
  });
  return h('section', { class: 'card', 'aria-label': title },
    h('div', { class: 'card-head' }, h('h2', {}, title), state, count, h('span', { class: 'grow' }), filter, pause, clear),
    note && h('p', { class: 'muted' }, note), list);
}

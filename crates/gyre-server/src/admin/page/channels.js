// Channels with subscribers, and one channel in full.
import { badge, card, confirm, empty, failure, field, h, heading, json, link, number, table, toast } from './dom.js';
import { share } from './chart.js';
import { by, feed } from './feed.js';
import { call, view } from './server.js';

const SHOWN = 500;
const PAGE = 20;

export const channels = {
  title: 'Channels',
  mount(root, { query, go }) {
    const pattern = h('input', { type: 'search', 'data-search': true, value: query.get('pattern') ?? '', placeholder: 'All, or a pattern such as chat:*', autocomplete: 'off', spellcheck: 'false' });
    const open = h('button', { type: 'button', class: 'quiet', onclick: () => { if (pattern.value) go(link.channel(pattern.value)); } }, 'Open by name');
    const list = h('div', { 'aria-live': 'polite' }, empty('Asking…'));
    const load = async () => {
      try {
        const { channels: found } = await call('channels', { pattern: pattern.value });
        const rows = Object.entries(found).map(([name, { num_clients: count }]) => [name, count ?? 0]).sort((a, b) => b[1] - a[1] || a[0].localeCompare(b[0]));
        const most = rows[0]?.[1] ?? 0;
        list.replaceChildren(
          h('p', { class: 'muted' }, `${number(rows.length)} ${rows.length === 1 ? 'channel' : 'channels'} with subscribers${rows.length > SHOWN ? `, the largest ${SHOWN} shown` : ''}`),
          table('Channels', [['Channel'], ['Clients', 'num'], ['', 'bar']], rows.slice(0, SHOWN).map(([name, count]) => [h('a', { href: link.channel(name), class: 'mono' }, name), number(count), share(count, most)]),
            'No channel with subscribers matches.'));
      } catch (error) { if (error.status !== 401) list.replaceChildren(failure(error)); }
    };
    const form = h('form', { class: 'card row wrap', role: 'search', onsubmit: (event) => { event.preventDefault(); go(`#/channels${pattern.value ? `?pattern=${encodeURIComponent(pattern.value)}` : ''}`, true); load(); } },
      h('div', { class: 'grow' }, field('Pattern or name', pattern)), h('button', {}, 'Search'), open);
    root.append(heading('Channels'), form, h('section', { class: 'card', 'aria-label': 'Channels found' }, list));
    load();
  },
};

export const channel = {
  title: 'Channel',
  mount(root, { name, go }, signal) {
    const [options, count, presence, history] = Array.from({ length: 4 }, () => h('div', {}));
    count.className = 'row wrap';
    root.append(
      heading(name, count),
      h('div', { class: 'grid aside' },
        h('div', { class: 'stack' }, feed({ channel: name }, signal, { title: 'Live messages' }), historyCard(name, history)),
        h('div', { class: 'stack' }, publishCard(name), card('Options', options), presenceCard(name, presence))));
    root.querySelector('h1').classList.add('mono');
    loadOptions(name, options, count, go);
  },
};

async function loadOptions(name, target, head, go) {
  try {
    const { namespace, options } = await view('channel', { channel: name });
    if (!options) return target.replaceChildren(h('p', { class: 'notice bad' }, 'The namespace of this channel is not configured: nobody can subscribe.'));
    const yes = (is) => (is ? badge('yes', 'good') : badge('no', 'quiet'));
    const rows = [
      ['namespace', namespace ?? 'without namespace'], ['kind', options.kind.replace('_', ' ')],
      ['history', options.history ? `${number(options.history.size)} for ${options.history.ttl}` : yes(false)],
      ['recovery', options.recovery === 'no' ? yes(false) : `${options.recovery}, ${options.recovery_mode}`], ['positioning', options.positioning === 'no' ? yes(false) : options.positioning],
      ['presence', yes(options.presence)], ['joins and leaves', options.force_push_join_leave ? 'pushed to all' : yes(options.join_leave)],
      ['delta', yes(options.delta)], ['tags filter', yes(options.tags_filter)],
      ['may subscribe', options.subscribe], ['may publish', options.publish], ['may see presence', options.presence_call], ['may read history', options.history_call],
      ...['subscribe_hook', 'publish_hook', 'sub_refresh_hook'].filter((hook) => options[hook]).map((hook) => [hook.replaceAll('_', ' '), options[hook]]),
      ...(options.channel_regex ? [['pattern of names', options.channel_regex]] : []),
    ];
    target.replaceChildren(h('dl', { class: 'facts' }, rows.map(([label, value]) => h('div', {}, h('dt', {}, label), h('dd', {}, value)))));
    const { channels: found } = await call('channels', { pattern: name.replace(/[\\*?[\]{}]/g, '\\$&') });
    head.replaceChildren(badge(`${number(found[name]?.num_clients ?? 0)} clients`, 'info'),
      h('a', { class: 'button quiet', href: link.connections({ channel: name }) }, 'Connections'));
  } catch (error) { if (error.status !== 401) target.replaceChildren(failure(error)); }
}

function publishCard(name) {
  const data = h('textarea', { rows: 4, spellcheck: 'false', class: 'mono', required: true }, '{"text": "hello"}');
  const said = h('p', { class: 'muted', role: 'status' });
  const submit = async (event) => {
    event.preventDefault();
    data.setCustomValidity('');
    let value;
    try { value = JSON.parse(data.value); } catch (error) {
      data.setCustomValidity(`This is not JSON: ${error.message}`);
      return data.reportValidity();
    }
    try {
      const { offset } = await call('publish', { channel: name, data: value });
      said.textContent = offset ? `Published at offset ${number(offset)}.` : 'Published.';
    } catch (error) { said.textContent = `Not published: ${error.message}`; }
  };
  const onEnter = (event) => { if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) event.target.form.requestSubmit(); };
  data.addEventListener('keydown', onEnter);
  data.addEventListener('input', () => data.setCustomValidity(''));
  return card('Publish', h('form', { onsubmit: submit }, field('Data, as JSON', data), h('div', { class: 'row' }, h('button', {}, 'Publish'), h('kbd', {}, 'Ctrl Enter'), said)));
}

function presenceCard(name, target) {
  const load = async () => {
    try {
      const { presence } = await call('presence', { channel: name });
      const members = Object.values(presence);
      target.replaceChildren(
        h('p', { class: 'muted' }, `${number(members.length)} clients, ${number(new Set(members.map(({ user }) => user)).size)} users`),
        h('div', { class: 'scroll' }, table('Presence', [['User'], ['Client'], ['Info']], members.slice(0, 200).map((member) => [
          h('a', { href: link.user(member.user ?? '') }, member.user || 'anonymous'), h('span', { class: 'mono' }, (member.client ?? '').slice(0, 8)),
          h('span', {}, [member.conn_info, member.chan_info].filter((info) => info !== undefined).map((info) => json(info)))]), 'Nobody is here.')));
    } catch (error) { if (error.status !== 401) target.replaceChildren(error.code === 108 ? empty('Presence is off for this channel.') : failure(error)); }
  };
  load();
  return h('section', { class: 'card', 'aria-label': 'Presence' }, h('div', { class: 'card-head' }, h('h2', {}, 'Presence'), h('span', { class: 'grow' }), h('button', { type: 'button', class: 'quiet', onclick: load }, 'Refresh')), target);
}

function historyCard(name, target) {
  let [oldest, epoch] = [null, ''];
  const rows = h('ol', { class: 'feed still', 'aria-label': 'Publications, newest first', tabindex: '0' });
  const top = h('span', { class: 'muted' });
  const older = h('button', { type: 'button', class: 'quiet', hidden: true, onclick: () => load(false) }, 'Older');
  const load = async (isFresh) => {
    try {
      const params = { channel: name, limit: PAGE, reverse: true };
      if (!isFresh) params.since = { offset: oldest, epoch };
      const page = await call('history', params);
      epoch = page.epoch;
      oldest = page.publications.at(-1)?.offset ?? null;
      top.textContent = `offset ${number(page.offset)} · epoch ${page.epoch}`;
      const items = page.publications.map(({ offset, data, info, epoch: _, ...more }) => h('li', {}, badge(`#${offset}`, 'quiet'), h('div', { class: 'feed-data' }, json(data), info && h('div', { class: 'feed-more' }, by(info)), Object.entries(more).map(([key, value]) => h('div', { class: 'feed-more' }, `${key} `, json(value))))));
      if (isFresh) rows.replaceChildren(...items); else rows.append(...items);
      older.hidden = page.publications.length < PAGE || oldest <= 1;
      target.replaceChildren(rows.children.length ? rows : empty('No publication is kept.'), older);
    } catch (error) { if (error.status !== 401) target.replaceChildren(error.code === 108 ? empty('History is off for this channel.') : failure(error)); }
  };
  const remove = async () => {
    if (!await confirm(`Remove all publications kept of ${name}? Its position stays.`, 'Remove')) return;
    try { await call('history_remove', { channel: name }); toast('The history is removed.'); load(true); } catch (error) { toast(error.message, 'bad'); }
  };
  load(true);
  return h('section', { class: 'card', 'aria-label': 'History' }, h('div', { class: 'card-head' }, h('h2', {}, 'History'), top, h('span', { class: 'grow' }),
    h('button', { type: 'button', class: 'quiet', onclick: () => load(true) }, 'Refresh'), h('button', { type: 'button', class: 'quiet', onclick: remove }, 'Remove')), target);
}

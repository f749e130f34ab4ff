// Connections of this node, and what those of one user do.
import { badge, bytes, card, confirm, duration, empty, failure, field, h, heading, link, number, table, toast } from './dom.js';
import { feed } from './feed.js';
import { call } from './server.js';

const CHIPS = 4;

/** A table of connections, page by page. */
function list(target, filter) {
  let rows = [];
  const disconnect = async (connection) => {
    if (!await confirm(`Disconnect ${connection.client.slice(0, 8)} of ${connection.user || 'an anonymous user'}? The client does not come back by itself.`, 'Disconnect')) return;
    try {
      await call('disconnect', { user: connection.user, client: connection.client });
      toast('Disconnected.');
      load(null);
    } catch (error) { toast(error.message, 'bad'); }
  };
  const row = (connection) => [
    h('span', { class: 'mono', title: connection.client }, connection.client.slice(0, 8)),
    h('a', { href: link.user(connection.user) }, connection.user || 'anonymous'),
    h('span', { class: 'nowrap' }, connection.transport, ' ', badge(connection.protocol, 'quiet')),
    h('span', { class: 'chips' }, Object.keys(connection.state?.channels ?? {}).sort().slice(0, CHIPS).map((name) => h('a', { class: 'chip mono', href: link.channel(name) }, name)),
      connection.num_channels > CHIPS && h('span', { class: 'muted' }, `and ${number(connection.num_channels - CHIPS)} more`)),
    connection.app_name ? h('span', { class: 'nowrap' }, connection.app_name, connection.app_version && ` ${connection.app_version}`) : '',
    connection.connected_at_ms ? h('time', { class: 'nowrap', title: new Date(connection.connected_at_ms).toLocaleString() }, duration((Date.now() - connection.connected_at_ms) / 1000)) : '',
    bytes(connection.queue_bytes),
    h('button', { type: 'button', class: 'quiet small', 'aria-label': `Disconnect ${connection.client.slice(0, 8)}`, onclick: () => disconnect(connection) }, 'Disconnect'),
  ];
  const load = async (from) => {
    try {
      const page = await call('connections', from ? { ...filter, cursor: from } : filter);
      const found = Object.entries(page.connections).map(([client, connection]) => ({ user: '', queue_bytes: 0, num_channels: 0, ...connection, client }));
      rows = from ? [...rows, ...found] : found;
      target.replaceChildren(
        h('p', { class: 'muted' }, `${number(rows.length)}${page.cursor ? ' and more' : ''} connected`),
        table('Connections', [['Client'], ['User'], ['Transport'], ['Channels'], ['App'], ['Connected', 'num'], ['Waiting', 'num'], ['', 'num']], rows.map(row), 'No connection matches.'),
        page.cursor ? h('button', { type: 'button', class: 'quiet', onclick: () => load(page.cursor) }, 'More') : '');
    } catch (error) { if (error.status !== 401) target.replaceChildren(failure(error)); }
  };
  load(null);
  return () => load(null);
}

export const connections = {
  title: 'Connections',
  mount(root, { query, go }) {
    const input = (name, more) => h('input', { type: 'search', name, value: query.get(name) ?? '', autocomplete: 'off', spellcheck: 'false', ...more });
    const inputs = { user: input('user', { 'data-search': true }), client: input('client'), channel: input('channel') };
    const filter = Object.fromEntries(['user', 'client', 'channel'].filter((name) => query.get(name)).map((name) => [name, query.get(name)]));
    const target = h('div', { 'aria-live': 'polite' }, empty('Asking…'));
    const form = h('form', { class: 'card row wrap', role: 'search', onsubmit: (event) => {
      event.preventDefault();
      go(link.connections(Object.entries(inputs).filter(([, { value }]) => value).map(([name, { value }]) => [name, value])));
    } }, field('User', inputs.user), field('Client', inputs.client), field('Channel', inputs.channel), h('button', {}, 'Search'));
    root.append(heading('Connections'), form, h('section', { class: 'card', 'aria-label': 'Connections found' }, target));
    list(target, filter);
  },
};

export const user = {
  title: 'User',
  mount(root, { name }, signal) {
    const target = h('div', {});
    const shown = name || 'anonymous';
    const disconnect = h('button', { type: 'button', class: 'danger small', onclick: async () => {
      if (!await confirm(`Disconnect every connection of ${shown}?`, 'Disconnect')) return;
      try { await call('disconnect', { user: name }); toast('Disconnected.'); reload(); } catch (error) { toast(error.message, 'bad'); }
    } }, 'Disconnect all');
    root.append(heading(shown, disconnect), card('Connections', target),
      feed({ user: name }, signal, { title: 'Activity', note: 'Commands, subscriptions and the end of each connection, as they happen. Publications received are seen in their channels.' }));
    // The API lists all connections for no user: anonymous ones cannot be asked for alone.
    const reload = name ? list(target, { user: name }) : () => {};
    if (!name) target.append(empty('Anonymous connections are among all others in the list of connections.'));
  },
};

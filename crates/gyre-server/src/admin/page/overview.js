// The node at a glance.
import { badge, bytes, card, compact, duration, failure, h, heading, number, table } from './dom.js';
import { chart, share } from './chart.js';
import { CODES, call, figures, rates } from './server.js';

const SHORT = { websocket: 'WebSocket', webtransport: 'WebTransport' };

export default {
  title: 'Overview',
  mount(root, _, signal) {
    const tile = (name) => {
      const value = h('dd', {}, '–');
      return { element: h('div', { class: 'tile' }, h('dt', {}, name), value), set: (text) => { value.textContent = text; } };
    };
    const names = ['Clients', 'Users', 'Channels', 'Subscriptions', 'Messages/s', 'Uptime'];
    const tiles = Object.fromEntries(names.map((name) => [name, tile(name)]));
    const open = (name) => (samples) => samples.map(({ transports }) => transports.find((one) => one.name === name).open);
    const others = (samples) => samples.map(({ transports }) => transports.filter(({ name }) => !SHORT[name]).reduce((sum, one) => sum + one.open, 0));
    const charts = [
      chart('Open connections', [{ name: 'WebSocket', values: open('websocket') }, { name: 'WebTransport', values: open('webtransport') }, { name: 'other', values: others, isRare: true }], { format: compact, floor: 4 }),
      chart('Messages per second', [{ name: 'sent', values: (samples) => rates(samples, (s) => s.messages_sent) }, { name: 'commands received', values: (samples) => rates(samples, (s) => s.commands) }], { format: compact, floor: 4 }),
      chart('Memory', [{ name: 'resident', values: (samples) => samples.map((s) => s.process.memory_bytes) }], { format: bytes, unit: 1 << 20 }),
      chart('Processor', [{ name: 'of one core', values: (samples) => rates(samples, (s) => s.process.cpu_seconds === null ? null : s.process.cpu_seconds * 100) }], { format: (value) => `${Math.round(value * 10) / 10} %`, floor: 9 }),
    ];
    const [nodes, transports, ends, refusals, problem] = Array.from({ length: 5 }, () => h('div', {}));
    root.append(
      heading('Overview'), problem,
      h('dl', { class: 'tiles' }, Object.values(tiles).map(({ element }) => element)),
      h('div', { class: 'grid two' }, charts.map(({ element }) => h('section', { class: 'card' }, element))),
      card('Nodes', nodes),
      h('div', { class: 'grid two' }, card('Transports', transports), card('Disconnects', ends)),
      card('Errors and refusals', refusals));

    let turn = 0;
    const askNodes = async () => {
      try {
        const { nodes: list } = await call('info');
        nodes.replaceChildren(table('Nodes', [['Name'], ['Version'], ['Uptime', 'num'], ['Clients', 'num'], ['Users', 'num'], ['Channels', 'num'], ['Subscriptions', 'num']],
          list.map((node) => [h('strong', {}, node.name), badge(node.version), duration(node.uptime ?? 0), number(node.num_clients), number(node.num_users), number(node.num_channels), number(node.num_subs)])));
      } catch (error) { if (error.status !== 401) nodes.replaceChildren(failure(error)); }
    };
    figures.watch(signal, (samples, error) => {
      problem.replaceChildren(...(error && error.status !== 401 ? [failure(error)] : []));
      const now = samples.at(-1);
      if (!now) return;
      // All nodes are asked less often: that is a question to each of them.
      if (turn++ % 10 === 0) askNodes();
      const rate = rates(samples, (s) => s.messages_sent).at(-1);
      const texts = [compact(now.clients), compact(now.users), compact(now.channels), compact(now.subscriptions), rate === null ? '–' : compact(rate), duration(now.node.uptime)];
      names.forEach((name, i) => tiles[name].set(texts[i]));
      charts.forEach((one) => one.update(samples));
      const total = now.transports.reduce((sum, one) => sum + one.open, 0);
      const used = now.transports.filter((one) => one.accepted > 0);
      transports.replaceChildren(table('Transports', [['Transport'], ['Open', 'num'], ['', 'bar'], ['Accepted', 'num']],
        used.map((one) => [one.name, number(one.open), share(one.open, total), number(one.accepted)]), 'No connection has come yet.'));
      const ended = now.disconnects.reduce((sum, [, count]) => sum + count, 0);
      ends.replaceChildren(table('Disconnects', [['Code', 'num'], ['Meaning'], ['', 'bar'], ['Count', 'num']],
        [...now.disconnects].sort((a, b) => b[1] - a[1]).map(([code, count]) => [String(code), CODES[code] ?? 'of the application', share(count, ended), number(count)]), 'No connection has ended yet.'));
      const refused = Object.entries(now.refused).filter(([, count]) => count > 0).map(([name, count]) => [badge('refused', 'warn'), `connections: ${name.replaceAll('_', ' ')}`, number(count)]);
      const errors = now.errors.map(([command, code, count]) => [badge('error', 'bad'), `${command}: ${code} ${CODES[code] ?? ''}`, number(count)]);
      const failed = now.recoveries.failed > 0 ? [[badge('recovery', 'warn'), 'clients that could not recover', number(now.recoveries.failed)]] : [];
      refusals.replaceChildren(table('Errors and refusals', [['Kind'], ['What'], ['Count', 'num']], [...refused, ...failed, ...errors], 'None: every command was answered with success.'));
    });
  },
};

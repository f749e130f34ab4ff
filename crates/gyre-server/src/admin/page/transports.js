// How clients are connected, and how WebTransport and the QUIC below it fare.
import { badge, bytes, card, compact, empty, failure, h, heading, milliseconds, number, percent, table } from './dom.js';
import { chart, columns, share } from './chart.js';
import { CODES, figures, rates } from './server.js';

const CAUSES = {
  server: 'closed by the server', client: 'closed by the client', client_transport: 'closed by the client\u2019s QUIC', protocol_error: 'protocol error of the client',
  timed_out: 'timed out', reset: 'reset', version: 'no common version', ids_exhausted: 'no connection id left',
};
const H3 = { 0x100: 'no error', 0x101: 'general protocol error', 0x102: 'internal error', 0x103: 'stream creation error', 0x104: 'closed critical stream', 0x105: 'frame unexpected', 0x106: 'frame error', 0x107: 'excessive load', 0x108: 'id error', 0x109: 'settings error', 0x10a: 'missing settings', 0x10c: 'request cancelled' };

const codeOf = (cause, code) => (code === null ? '' : cause === 'client' || cause === 'server' ? `0x${code.toString(16)} ${H3[code] ?? ''}` : code >= 0x100 && code < 0x200 ? `TLS alert ${code - 0x100}` : `0x${code.toString(16)}`);

export default {
  title: 'Transports',
  mount(root, _, signal) {
    const [used, quic, problem] = [h('div', {}), h('div', { class: 'stack' }), h('div', {})];
    root.append(heading('Transports'), problem, card('Connections', used), h('h2', { class: 'part' }, 'WebTransport and QUIC'), quic);
    const charts = [
      chart('Round trip time', ['p50', 'p90', 'p99'].map((name) => ({ name, values: (samples) => samples.map((s) => s.quic?.rtt_ms[name] ?? null) })), { format: milliseconds, floor: 1 }),
      chart('Packets lost per second', [{ name: 'lost', values: (samples) => rates(samples, (s) => s.quic && s.quic.packets_lost + s.quic.ended_packets_lost) }], { format: compact, floor: 4 }),
    ];
    const tiles = h('dl', { class: 'tiles' });
    const [histogram, sessions, closes, refused, paths] = Array.from({ length: 5 }, () => h('div', {}));
    const parts = [tiles, h('div', { class: 'grid two' }, charts.map(({ element }) => h('section', { class: 'card' }, element))),
      h('div', { class: 'grid two' }, card('Round trip times of open connections', histogram), card('Sessions closed by the server, by code', sessions)),
      h('div', { class: 'grid two' }, card('QUIC connections closed, by cause', closes), card('Sessions refused or ended by clients', refused)),
      card('Paths', paths)];

    figures.watch(signal, (samples, error) => {
      problem.replaceChildren(...(error && error.status !== 401 ? [failure(error)] : []));
      const now = samples.at(-1);
      if (!now) return;
      const total = now.transports.reduce((sum, one) => sum + one.open, 0);
      const closedOf = (name) => now.closes.filter(([transport]) => transport === name).reduce((sum, [, , count]) => sum + count, 0);
      used.replaceChildren(table('Connections', [['Transport'], ['Open', 'num'], ['', 'bar'], ['Accepted', 'num'], ['Closed by the server', 'num']],
        now.transports.filter((one) => one.accepted > 0).map((one) => [one.name, number(one.open), share(one.open, total), number(one.accepted), number(closedOf(one.name))]), 'No connection has come yet.'));
      const unused = now.transports.filter((one) => one.accepted === 0).map((one) => one.name);
      if (unused.length) used.append(h('p', { class: 'muted' }, `Nothing yet over ${unused.join(', ')}.`));
      const q = now.quic;
      if (!q) return quic.replaceChildren(h('section', { class: 'card' }, empty('HTTP/3 is not served here. With http_server.tls, http_server.http3.enabled and webtransport.enabled it is.')));
      if (!tiles.isConnected) quic.replaceChildren(...parts);
      const figuresOf = [['Open connections', number(q.open)], ['Handshakes', number(q.handshakes)], ['of them failed', percent(q.handshakes_failed, q.handshakes)], ['Sessions', number(q.sessions)],
        ['Round trip, median', milliseconds(q.rtt_ms.p50)], ['Packets lost', percent(q.packets_lost + q.ended_packets_lost, q.packets_sent + q.ended_packets_sent)]];
      tiles.replaceChildren(...figuresOf.map(([name, text]) => h('div', { class: 'tile' }, h('dt', {}, name), h('dd', {}, text))));
      charts.forEach((one) => one.update(samples));
      const { bounds, counts } = q.rtt_histogram;
      histogram.replaceChildren(columns('Connections by round trip time in milliseconds', counts.map((count, i) => [i < bounds.length ? `≤ ${bounds[i]}` : `> ${bounds[i - 1]}`, count])),
        h('p', { class: 'muted' }, q.sampled < q.open ? `milliseconds; ${number(q.sampled)} of ${number(q.open)} connections looked at` : 'milliseconds'));
      const ours = now.closes.filter(([transport]) => transport.includes('webtransport')).sort((a, b) => b[2] - a[2]);
      sessions.replaceChildren(table('Sessions closed by the server', [['Code', 'num'], ['Cause'], ['Transport'], ['Count', 'num']],
        ours.map(([transport, code, count]) => [String(code), CODES[code] ?? 'of the application', transport, number(count)]), 'The server has closed none.'));
      closes.replaceChildren(table('QUIC connections closed', [['Cause'], ['Code'], ['Count', 'num']],
        [...q.closes].sort((a, b) => b[2] - a[2]).map(([cause, code, count]) => [CAUSES[cause] ?? cause, codeOf(cause, code), number(count)]), 'None has ended yet.'));
      refused.replaceChildren(table('Sessions refused or ended by clients', [['What'], ['Code', 'num'], ['Count', 'num']], [
        ...q.sessions_refused.map(([status, count]) => [badge('refused', 'warn'), String(status), number(count)]),
        ...q.sessions_ended.map(([code, count]) => [code === null ? 'ended without a code' : badge('closed by the client', 'info'), code === null ? '' : String(code), number(count)])], 'None yet.'));
      paths.replaceChildren(table('Paths', [['Peer'], ['Round trip', 'num'], ['Lost', 'num'], ['Sent', 'num'], ['Congestion', 'num'], ['Window', 'num'], ['MTU', 'num'], ['Bytes out', 'num'], ['Bytes in', 'num']],
        q.paths.map((path) => [h('span', { class: 'mono' }, path.address), milliseconds(path.rtt_ms), `${number(path.packets_lost)} (${percent(path.packets_lost, path.packets_sent)})`, number(path.packets_sent),
          number(path.congestion_events), bytes(path.window_bytes), number(path.mtu), bytes(path.bytes_sent), bytes(path.bytes_received)]), 'No QUIC connection is open.'));
    });
  },
};

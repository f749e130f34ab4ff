// The configuration in force, and where each value comes from. Secrets never leave the server.
import { badge, empty, failure, field, h, heading, number } from './dom.js';
import { view } from './server.js';

const KINDS = { file: 'info', environment: 'good', flag: 'warn', 'development mode': 'quiet' };
const shown = (value) => (value === '' ? '""' : typeof value === 'string' ? value : JSON.stringify(value));

export default {
  title: 'Configuration',
  short: 'Config',
  mount(root) {
    const search = h('input', { type: 'search', 'data-search': true, placeholder: 'Part of a key, value or explanation', autocomplete: 'off', spellcheck: 'false' });
    const changed = h('input', { type: 'checkbox', checked: true });
    const target = h('div', { class: 'stack', 'aria-live': 'polite' }, empty('Asking…'));
    let entries = [];
    const row = (entry) => h('div', { class: 'setting' },
      h('dt', { class: 'mono' }, entry.path, entry.about && h('span', { class: 'about' }, entry.about)),
      h('dd', {}, h('span', { class: `mono ${entry.secret ? 'secret' : ''}` }, shown(entry.value)),
        entry.source ? badge(entry.source, KINDS[entry.source]) : badge('default', 'quiet'), entry.waits_for_restart && badge('waits for a restart', 'warn')));
    const draw = () => {
      const words = search.value.toLowerCase();
      const found = entries.filter((entry) => (!changed.checked || entry.source) && (!words || `${entry.path} ${shown(entry.value)} ${entry.about ?? ''}`.toLowerCase().includes(words)));
      const groups = Map.groupBy ? Map.groupBy(found, ({ path }) => path.split(/[.[]/)[0]) : found.reduce((map, entry) => map.set(entry.path.split(/[.[]/)[0], [...(map.get(entry.path.split(/[.[]/)[0]) ?? []), entry]), new Map());
      target.replaceChildren(h('p', { class: 'muted' }, `${number(found.length)} of ${number(entries.length)} keys`),
        ...[...groups].map(([name, list]) => h('details', { class: 'card', open: true }, h('summary', {}, h('h2', {}, name), h('span', { class: 'muted' }, number(list.length))), h('dl', { class: 'settings' }, list.map(row)))));
      if (found.length === 0) target.append(empty(changed.checked ? 'No key that was set matches.' : 'No key matches.'));
    };
    search.addEventListener('input', draw);
    changed.addEventListener('change', draw);
    root.append(heading('Configuration'), h('div', { class: 'card row wrap' }, h('div', { class: 'grow' }, field('Search', search)), field('Only what was set', changed)), target);
    view('configuration').then((list) => { entries = list; draw(); }, (error) => { if (error.status !== 401) target.replaceChildren(failure(error)); });
  },
};

// Every method of the server API as a form, with the request and the reply as they are sent.
import { card, empty, field, h, heading, json, toast } from './dom.js';
import { reply } from './server.js';

const channel = ['channel', 'text'];
const user = ['user', 'text'];
const client = ['client', 'text'];
const key = ['key', 'text'];

const METHODS = {
  publish: ['Publish into a channel', [channel, ['data', 'json', '{"text": "hello"}'], ['tags', 'json'], ['skip_history', 'bool'], ['idempotency_key', 'text'], ['delta', 'bool']]],
  broadcast: ['Publish into several channels', [['channels', 'list'], ['data', 'json', '{"text": "hello"}'], ['skip_history', 'bool'], ['idempotency_key', 'text']]],
  subscribe: ['Subscribe the connections of a user', [user, channel, client, ['data', 'json'], ['info', 'json'], ['expire_at', 'int']]],
  unsubscribe: ['Unsubscribe the connections of a user', [user, channel, client]],
  disconnect: ['Disconnect a user', [user, client, ['disconnect', 'json'], ['whitelist', 'list']]],
  refresh: ['Prolong or end connections', [user, client, ['expired', 'bool'], ['expire_at', 'int'], ['info', 'json']]],
  presence: ['Who is in a channel', [channel]],
  presence_stats: ['How many are in a channel', [channel]],
  history: ['Publications kept', [channel, ['limit', 'int', '10'], ['since', 'json'], ['reverse', 'bool']]],
  history_remove: ['Remove the publications kept', [channel]],
  channels: ['Channels with subscribers', [['pattern', 'text']]],
  connections: ['Who is connected', [user, client, channel, ['limit', 'int', '10'], ['cursor', 'text']]],
  info: ['The nodes', []],
  rpc: ['Call a method of the server', [['method', 'text'], ['params', 'json']]],
  map_publish: ['Set a key of a map', [channel, key, ['data', 'json', '{"text": "hello"}'], ['score', 'int'], ['key_mode', 'text'], ['tags', 'json']]],
  map_remove: ['Remove a key of a map', [channel, key]],
  map_read_state: ['Keys of a map', [channel, key, ['limit', 'int', '10'], ['cursor', 'text'], ['asc', 'bool']]],
  map_read_stream: ['Changes of a map', [channel, ['limit', 'int', '10'], ['since_offset', 'int'], ['since_epoch', 'text'], ['reverse', 'bool']]],
  map_stats: ['How many keys a map has', [channel]],
  map_clear: ['Remove all keys of a map', [channel]],
  shared_poll_publish: ['Give a key of a shared poll new data', [channel, key, ['data', 'json', '{}'], ['version', 'int'], ['epoch', 'text']]],
};

function input([name, kind, given]) {
  const common = { name, spellcheck: 'false', autocomplete: 'off' };
  switch (kind) {
    case 'bool': return h('input', { type: 'checkbox', ...common });
    case 'int': return h('input', { type: 'number', step: '1', ...common, value: given ?? '' });
    case 'json': return h('textarea', { rows: 2, class: 'mono', ...common }, given ?? '');
    default: return h('input', { type: 'text', ...common });
  }
}

/** The value of a field; undefined for none. */
function value(kind, element) {
  if (kind === 'bool') return element.checked || undefined;
  if (element.value.trim() === '') return undefined;
  switch (kind) {
    case 'int': return Number(element.value);
    case 'list': return element.value.split(/[\s,]+/).filter(Boolean);
    case 'json': return JSON.parse(element.value);
    default: return element.value;
  }
}

export default {
  title: 'Actions',
  mount(root, { query, go }) {
    const name = query.get('method') in METHODS ? query.get('method') : 'publish';
    const [about, fields] = METHODS[name];
    const select = h('select', { 'data-search': true, onchange: () => go(`#/actions?method=${select.value}`) },
      Object.keys(METHODS).map((method) => h('option', { value: method, selected: method === name }, method)));
    const inputs = fields.map((one) => [one, input(one)]);
    const request = h('textarea', { rows: 8, class: 'mono', spellcheck: 'false', 'aria-label': 'Parameters as JSON' });
    const answer = h('div', { class: 'reply', role: 'status', tabindex: '0', 'aria-label': 'Reply' }, empty('The reply comes here.'));
    const took = h('span', { class: 'muted' });
    const compose = () => {
      const params = {};
      for (const [[field, kind], element] of inputs) {
        element.setCustomValidity('');
        try {
          const given = value(kind, element);
          if (given !== undefined) params[field] = given;
        } catch (error) { element.setCustomValidity(`This is not JSON: ${error.message}`); }
      }
      request.setCustomValidity('');
      request.value = JSON.stringify(params, null, 2);
    };
    const submit = async (event) => {
      event.preventDefault();
      let params;
      request.setCustomValidity('');
      try { params = JSON.parse(request.value); } catch (error) {
        request.setCustomValidity(`This is not JSON: ${error.message}`);
        return request.reportValidity();
      }
      const began = performance.now();
      try {
        const text = await reply(name, params);
        took.textContent = `${Math.round(performance.now() - began)} ms`;
        const parsed = JSON.parse(text);
        const copy = h('button', { type: 'button', class: 'quiet small', onclick: () => navigator.clipboard?.writeText(text).then(() => toast('Copied.')) }, 'Copy raw');
        answer.replaceChildren(h('div', { class: `outcome ${parsed.error ? 'bad' : 'good'}` }, parsed.error ? 'error' : 'result', h('span', { class: 'grow' }), copy), h('pre', {}, json(parsed)));
      } catch (error) { answer.replaceChildren(h('p', { class: 'notice bad' }, error.message)); }
    };
    const form = h('form', { onsubmit: submit, oninput: (event) => { if (event.target !== request && event.target !== select) compose(); } },
      h('div', { class: 'grid aside even' },
        h('div', { class: 'stack' }, card('Method', field('Name', select), h('p', { class: 'muted' }, about), ...inputs.map(([[label], element]) => field(label, element)))),
        h('div', { class: 'stack' }, card('Request', request, h('div', { class: 'row' }, h('button', {}, `Send ${name}`), took)), card('Reply', answer))));
    root.append(heading('Actions'), form);
    compose();
  },
};

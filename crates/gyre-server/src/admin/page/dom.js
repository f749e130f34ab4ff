// Elements made in code: text is always text, so nothing a server says can become markup.

/** Makes an element. Properties that begin with `on` are listeners, `class` and others attributes; null is left out. */
export function h(tag, properties, ...children) {
  return fill(document.createElement(tag), properties, children);
}

/** The same in the namespace of SVG. */
export function svg(tag, properties, ...children) {
  return fill(document.createElementNS('http://www.w3.org/2000/svg', tag), properties, children);
}

function fill(element, properties, children) {
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else if (name === 'value') element.value = value;
    else element.setAttribute(name, value === true ? '' : value);
  }
  element.append(...children.flat(3).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export const icon = (name) => svg('svg', { class: 'icon', 'aria-hidden': 'true' }, svg('use', { href: `#${name}` }));

const plain = new Intl.NumberFormat('en');
const short = new Intl.NumberFormat('en', { notation: 'compact', maximumFractionDigits: 1 });

/** A count for people: whole, or shortened where it would be long. */
export const number = (value) => (value === null || value === undefined ? '–' : plain.format(value));
export const compact = (value) => (Math.abs(value) >= 10000 ? short.format(value) : plain.format(Math.round(value * 10) / 10));

export function bytes(value) {
  if (value === null || value === undefined) return '–';
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) { value /= 1024; unit++; }
  return `${value < 10 && unit > 0 ? value.toFixed(1) : Math.round(value)} ${units[unit]}`;
}

export function duration(seconds) {
  const [d, hours, m] = [Math.floor(seconds / 86400), Math.floor(seconds / 3600) % 24, Math.floor(seconds / 60) % 60];
  if (d > 0) return `${d} d ${hours} h`;
  if (hours > 0) return `${hours} h ${m} min`;
  return m > 0 ? `${m} min ${Math.floor(seconds % 60)} s` : `${Math.floor(seconds)} s`;
}

export function milliseconds(value) {
  if (value === null || value === undefined) return '–';
  return `${value < 10 ? value.toFixed(2) : value < 100 ? value.toFixed(1) : Math.round(value)} ms`;
}

export const percent = (part, whole) => (whole > 0 ? `${((100 * part) / whole).toFixed(part > 0 && part * 100 < whole ? 2 : 1)} %` : '–');

export const clock = (time) => {
  const date = new Date(time);
  return `${date.toLocaleTimeString('en-GB')}.${String(date.getMilliseconds()).padStart(3, '0')}`;
};

/** A heading that takes the focus when its view appears. */
export const heading = (text, ...more) => h('header', { class: 'view-head' }, h('h1', { tabindex: '-1' }, text), ...more);

export const card = (title, ...children) => h('section', { class: 'card', 'aria-label': title }, h('h2', {}, title), ...children);

export const empty = (text) => h('p', { class: 'empty' }, text);

export const badge = (text, kind = '') => h('span', { class: `badge ${kind}` }, text);

/** A table; columns are `[title, class]`, rows lists of cells. It scrolls by itself where it is too wide. */
export function table(label, columns, rows, nothing = 'Nothing yet.') {
  if (rows.length === 0) return empty(nothing);
  const cell = (content, i) => h('td', { class: columns[i][1], 'data-label': columns[i][0] }, content);
  return h('div', { class: `table ${columns.length > 4 ? 'wide' : ''}`, tabindex: '0', role: 'region', 'aria-label': label },
    h('table', {}, h('thead', {}, h('tr', {}, columns.map(([title, kind]) => h('th', { scope: 'col', class: kind }, title)))),
      h('tbody', {}, rows.map((row) => h('tr', {}, row.map(cell))))));
}

/** A labelled field of a form. */
export function field(label, input, hint) {
  input.id ||= `field-${field.count = (field.count ?? 0) + 1}`;
  return h('div', { class: `field ${input.type === 'checkbox' ? 'check' : ''}` },
    h('label', { for: input.id }, label), input, hint && h('p', { class: 'hint' }, hint));
}

/** JSON with colours, short values on one line. */
export function json(value) {
  const pre = h('code', { class: 'json' });
  const write = (part, indent) => {
    if (part !== null && typeof part === 'object') {
      const isList = Array.isArray(part);
      const entries = Object.entries(part);
      const [open, close] = isList ? '[]' : '{}';
      const flat = JSON.stringify(part);
      const breaks = flat.length > 72 && entries.length > 0;
      const line = (deeper) => (breaks ? `\n${'  '.repeat(indent + deeper)}` : deeper && !isList && entries.length ? ' ' : '');
      pre.append(open);
      entries.forEach(([name, inner], i) => {
        pre.append(i > 0 && !breaks ? ', ' : line(1));
        if (!isList) pre.append(h('span', { class: 'j-key' }, JSON.stringify(name)), ': ');
        write(inner, indent + 1);
        if (i < entries.length - 1 && breaks) pre.append(',');
      });
      pre.append(breaks ? line(0) : !isList && entries.length ? ' ' : '', close);
    } else {
      const kind = part === null ? 'null' : typeof part;
      pre.append(h('span', { class: `j-${kind}` }, JSON.stringify(part)));
    }
  };
  write(value, 0);
  return pre;
}

/** Says something that passes. */
export function toast(text, kind = '') {
  const box = h('div', { class: `toast ${kind}` }, text);
  document.getElementById('toasts').append(box);
  setTimeout(() => box.remove(), 5000);
}

/** Asks before something that cannot be undone; resolves with the answer. */
export function confirm(question, action) {
  return new Promise((resolve) => {
    const dialog = h('dialog', { class: 'dialog', 'aria-label': question, onclose: () => { dialog.remove(); resolve(dialog.returnValue === 'yes'); } },
      h('p', {}, question),
      h('div', { class: 'row end' },
        h('button', { class: 'quiet', type: 'button', autofocus: true, onclick: () => dialog.close('no') }, 'Cancel'),
        h('button', { class: 'danger', type: 'button', onclick: () => dialog.close('yes') }, action)));
    document.body.append(dialog);
    dialog.showModal();
  });
}

/** What a failed call says, in place of what it would have shown. */
export const failure = (error) => h('p', { class: 'notice bad', role: 'alert' }, error.message);

export const link = {
  channel: (name) => `#/channel/${encodeURIComponent(name)}`,
  user: (name) => `#/user/${encodeURIComponent(name)}`,
  connections: (query) => `#/connections?${new URLSearchParams(query)}`,
};

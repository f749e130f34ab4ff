// Line charts that move with time. Read with the pointer or, focused, with the arrow keys.
import { h, svg } from './dom.js';

const [WIDTH, HEIGHT] = [600, 150];
/** Milliseconds a chart shows at least. */
const LEAST = 30000;

/** The least round number not below a value. */
function ceiling(value) {
  if (value <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 2.5, 5, 10, 20].find((step) => step * power >= value * 1.02) * power;
}

/**
 * A chart of some series: `[{ name, values(samples) → [number | null], isRare }]`. `update(samples)` draws it anew. Rare series
 * are shown once they have something to show; `unit` is what round numbers of the scale count.
 */
export function chart(title, series, { format = String, floor = 0, unit = 1 } = {}) {
  const lines = series.map((_, i) => svg('path', { class: `line s${i}`, 'vector-effect': 'non-scaling-stroke' }));
  const areas = series.length === 1 ? [svg('path', { class: 'area s0' })] : [];
  const grid = [0.25, 0.5, 0.75].map((y) => svg('line', { class: 'grid', x1: 0, x2: WIDTH, y1: HEIGHT * y, y2: HEIGHT * y, 'vector-effect': 'non-scaling-stroke' }));
  const cursor = svg('line', { class: 'cursor', y1: 0, y2: HEIGHT, visibility: 'hidden', 'vector-effect': 'non-scaling-stroke' });
  const drawing = svg('svg', { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: 'none', 'aria-hidden': 'true' }, grid, areas, lines, cursor);
  const [top, middle, bottom] = ['top', 'middle', 'bottom'].map((place) => h('span', { class: `scale ${place}` }));
  const values = series.map(({ name }, i) => h('span', { class: `legend s${i}` }, h('i', {}), name, ' ', h('b', {}, '–')));
  const when = h('span', { class: 'when' }, 'now');
  const plot = h('div', { class: 'plot', tabindex: '0', role: 'img', 'aria-label': title }, drawing, top, middle, bottom);
  const figure = h('figure', { class: 'chart' }, h('figcaption', {}, h('span', { class: 'chart-title' }, title), when), plot, h('div', { class: 'legends' }, values));

  let [samples, drawn, at] = [[], [], null];
  // By time, the newest at the right; with some room at least, so that a line grows instead of being stretched.
  const span = () => Math.max(LEAST, samples.at(-1).time - samples[0].time);
  const x = (i) => WIDTH * (1 - (samples.at(-1).time - samples[i].time) / span());

  const tell = () => {
    const i = at ?? samples.length - 1;
    drawn.forEach((list, s) => { values[s].querySelector('b').textContent = list[i] === null || list[i] === undefined ? '–' : format(list[i]); });
    const ago = samples.length ? Math.round((samples.at(-1).time - samples[i].time) / 1000) : 0;
    when.textContent = at === null ? `last ${samples.length ? Math.round(span() / 1000) : 30} s` : ago > 0 ? `${ago} s ago` : 'now';
    plot.setAttribute('aria-label', `${title}, ${when.textContent}: ${values.map((value) => value.textContent).join(', ')}`);
    cursor.setAttribute('visibility', at === null ? 'hidden' : 'visible');
    if (at !== null) for (const end of ['x1', 'x2']) cursor.setAttribute(end, x(at));
  };

  const read = (i) => { at = samples.length && i !== null ? Math.max(0, Math.min(samples.length - 1, i)) : null; tell(); };
  plot.addEventListener('pointermove', (event) => {
    const box = plot.getBoundingClientRect();
    if (!samples.length) return;
    const time = samples.at(-1).time - span() * (1 - (event.clientX - box.left) / box.width);
    read(samples.reduce((best, sample, i) => (Math.abs(sample.time - time) < Math.abs(samples[best].time - time) ? i : best), 0));
  });
  plot.addEventListener('pointerleave', () => read(null));
  plot.addEventListener('blur', () => read(null));
  plot.addEventListener('keydown', ({ key }) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[key];
    if (step) read((at ?? samples.length - 1) + step);
    if (key === 'Escape') read(null);
  });

  return {
    element: figure,
    update(given) {
      samples = given;
      drawn = series.map((one) => one.values(samples));
      const most = unit * ceiling(Math.max(floor, ...drawn.flat().map((value) => value ?? 0)) / unit);
      const y = (value) => HEIGHT - (HEIGHT * value) / most;
      drawn.forEach((list, s) => {
        const isShown = !series[s].isRare || list.some((value) => value > 0);
        values[s].hidden = !isShown;
        lines[s].setAttribute('visibility', isShown ? 'visible' : 'hidden');
        let path = '';
        list.forEach((value, i) => { if (value !== null) path += `${path && list[i - 1] !== null ? 'L' : 'M'}${x(i).toFixed(1)} ${y(value).toFixed(1)}`; });
        lines[s].setAttribute('d', path);
        if (areas[s]) {
          const first = list.findIndex((value) => value !== null);
          areas[s].setAttribute('d', path ? `${path}L${WIDTH} ${HEIGHT}L${x(first).toFixed(1)} ${HEIGHT}Z` : '');
        }
      });
      top.textContent = format(most);
      middle.textContent = format(most / 2);
      bottom.textContent = '0';
      if (at !== null && at >= samples.length) at = null;
      tell();
    },
  };
}

/** Columns of a histogram. */
export function columns(title, bars) {
  const most = Math.max(1, ...bars.map(([, count]) => count));
  const bar = ([label, count]) => {
    const fill = h('span', { class: 'column-fill' });
    fill.style.height = `${(100 * count) / most}%`;
    return h('li', {}, h('span', { class: 'column-count' }, count || ''), h('span', { class: 'column' }, fill), h('span', { class: 'column-label' }, label));
  };
  return h('ol', { class: 'columns', 'aria-label': title }, bars.map(bar));
}

/** A share of a whole, as a bar. */
export function share(part, whole) {
  const fill = h('span', {});
  fill.style.width = `${whole > 0 ? Math.max(part > 0 ? 1 : 0, (100 * part) / whole) : 0}%`;
  return h('span', { class: 'share', 'aria-hidden': 'true' }, fill);
}

// Feature maps, and how one number of them is computed.

// Viridis (van der Walt and Smith 2015), at nine positions, and colors in between.
const VIRIDIS = [[68, 1, 84], [71, 44, 122], [59, 81, 139], [44, 113, 142], [33, 144, 141], [39, 173, 129], [92, 200, 99],
  [170, 220, 50], [253, 231, 37]];
const COLORS = Array.from({ length: 256 }, (_, i) => {
  const position = i / 255 * 8, low = Math.min(7, Math.floor(position));
  return VIRIDIS[low].map((value, c) => Math.round(value + (position - low) * (VIRIDIS[low + 1][c] - value)));
});
const PACKED = new Uint32Array(COLORS.map(([r, g, b]) => (255 << 24 | b << 16 | g << 8 | r) >>> 0));

// A layer's maps beside each other, in columns; one canvas for all, drawn at the size of its numbers.
class LayerView {
  constructor(layer, ask) {
    this.layer = layer;
    this.cursor = 0;
    this.visible = true;
    this.button = make('button', { type: 'button', textContent: 'Switch off', 'aria-pressed': 'false' });
    this.all = make('button', { type: 'button', textContent: 'All maps', 'aria-pressed': 'false', className: 'hidden' });
    this.range = make('span', { className: 'soft' });
    this.canvas = make('canvas', { tabIndex: 0, width: 1, height: 1 });
    this.canvas.setAttribute('role', 'application');
    this.canvas.setAttribute('aria-label', `Outputs of ${layer.name}: arrow keys choose a number, Enter explains it`);
    const heading = make('header', {}, make('h3', { textContent: layer.name }),
      make('span', { className: 'soft', textContent: `${layer.op}, ${layer.shape.join('×')}` }), this.range, this.all);
    if (layer.weights) heading.append(this.button);
    this.element = make('div', { className: 'layer' }, heading, make('div', { className: 'scroll' }, this.canvas));
    this.canvas.addEventListener('click', event => {
      const box = this.canvas.getBoundingClientRect();
      const position = this.at((event.clientX - box.left) / box.width * this.canvas.width, (event.clientY - box.top) / box.height * this.canvas.height);
      if (position) ask(layer, position);
    });
    this.canvas.addEventListener('keydown', event => this.key(event, ask));
    this.canvas.addEventListener('blur', () => this.draw());
  }

  show(header, values) {
    this.header = header;
    this.values = values;
    this.layOut(header.shape, header.count);
    this.range.textContent = `${format(header.low)} to ${format(header.high)}`;
    this.draw();
  }

  // Give the canvas its size, also before there are numbers, so that nothing moves when they come.
  layOut(shape, count) {
    const [h, w] = shape.length === 3 ? shape : [1, 1];
    this.size = [h, w];
    this.columns = h * w === 1 ? Math.min(count, Math.floor(this.room() / 12)) : Math.max(1, Math.min(count, Math.floor((this.room() + 1) / (w * this.zoom() + this.zoom()))));
    const rows = Math.ceil(count / this.columns), gap = h * w === 1 ? 0 : 1;
    this.step = [h + gap, w + gap];
    const width = this.columns * this.step[1] - gap, height = rows * this.step[0] - gap;
    if (this.canvas.width !== width || this.canvas.height !== height) {
      Object.assign(this.canvas, { width, height });
      this.canvas.style.width = `${width * this.zoom()}px`;
      this.image = new ImageData(width, height);
      this.words = new Uint32Array(this.image.data.buffer);
    }
    this.all.classList.toggle('hidden', shape.length < 3 || shape[2] <= 12);
  }

  room() {
    return this.canvas.parentElement.clientWidth || 300;
  }

  zoom() {
    const [h, w] = this.size || [1, 1];
    return h * w === 1 ? 12 : Math.max(1, Math.min(8, Math.round(64 / w)));
  }

  draw() {
    if (!this.header) return;
    const [h, w] = this.size, [stepY, stepX] = this.step, { words, values, canvas } = this;
    for (let k = 0, from = 0; k < this.header.count; k++) {
      const top = Math.floor(k / this.columns) * stepY, left = k % this.columns * stepX;
      for (let y = 0; y < h; y++) {
        for (let x = 0, to = (top + y) * canvas.width + left; x < w; x++) words[to++] = PACKED[values[from++]];
      }
    }
    const context = canvas.getContext('2d');
    context.putImageData(this.image, 0, 0);
    if (document.activeElement === canvas && canvas.matches(':focus-visible')) {
      const { channel, row, column } = this.position(this.cursor);
      context.fillStyle = '#f33';
      context.fillRect(channel % this.columns * stepX + column, Math.floor(channel / this.columns) * stepY + row, 1, 1);
    }
  }

  // The number at a position of the canvas.
  at(x, y) {
    if (!this.header) return null;
    const channel = Math.floor(y / this.step[0]) * this.columns + Math.floor(x / this.step[1]);
    const row = Math.floor(y % this.step[0]), column = Math.floor(x % this.step[1]);
    return channel < this.header.count && row < this.size[0] && column < this.size[1] ? { channel, row, column } : null;
  }

  position(number) {
    const [h, w] = this.size;
    return { channel: Math.floor(number / (h * w)), row: Math.floor(number % (h * w) / w), column: number % w };
  }

  key(event, ask) {
    const [h, w] = this.size || [1, 1];
    const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -w, ArrowDown: w, PageUp: -h * w, PageDown: h * w }[event.key];
    if (!this.header || (!step && event.key !== 'Enter')) return;
    event.preventDefault();
    if (step) this.cursor = Math.min(this.header.count * h * w - 1, Math.max(0, this.cursor + step));
    else ask(this.layer, this.position(this.cursor));
    this.draw();
  }
}

function format(value) {
  if (value === null || value === undefined) return '–';
  const size = Math.abs(value);
  return size !== 0 && (size < 0.001 || size >= 1e5) ? value.toExponential(2) : String(Number(value.toPrecision(4))).replace('-', '−');
}

// Black or white, whichever can be read better on a color.
function readable([r, g, b]) {
  const linear = [r, g, b].map(v => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] > 0.179 ? '#000' : '#fff';
}

// Numbers as a table of colored cells.
function grid(rows, label) {
  const numbers = rows.flat().filter(value => value !== null), low = Math.min(...numbers), high = Math.max(...numbers);
  const body = rows.map(row => make('tr', {}, ...row.map(value => {
    const cell = make('td', { textContent: format(value) });
    const color = COLORS[value === null || high === low ? 0 : Math.round(255 * (value - low) / (high - low))];
    cell.style.background = `rgb(${color})`;
    cell.style.color = readable(color);
    return cell;
  })));
  return make('table', { className: 'grid', 'aria-label': label }, make('tbody', {}, ...body));
}

function table(head, rows) {
  return make('table', { className: 'list' }, make('thead', {}, make('tr', {}, ...head.map(text => make('th', { textContent: text, scope: 'col' })))),
    make('tbody', {}, ...rows.map(row => make('tr', {}, ...row.map(text => make('td', { textContent: text }))))));
}

const scrolled = element => make('div', { className: 'scroll', tabIndex: 0, role: 'group', 'aria-label': 'numbers' }, element);
const line = text => make('p', { className: 'formula', textContent: text });

// The elements that show the server's answer to /explain.
function explanation(found) {
  const { row, column, channel } = { row: found.pixel[0], column: found.pixel[1], channel: found.pixel[2] };
  const parts = [
    make('h3', { textContent: `${found.layer}, ${found.image ? `row ${row}, column ${column}, channel` : 'feature'} ${channel}` }),
    make('p', { className: 'soft', textContent: `${found.op} of ${found.inputs.join(', ')}` }),
    line(found.formula),
  ];
  const range = (name, taps) => `${name}${taps.length > 1 ? 's' : ''} ${taps.map(tap => tap === null ? '·' : tap).join(' ')}`;
  if (found.rows) {
    const padding = [...found.rows, ...found.columns].includes(null) ? '; · is padding' : '';
    parts.push(make('p', { className: 'soft', textContent: `${range('row', found.rows)}; ${range('column', found.columns)}${padding}` }));
  }
  if (found.kind === 'products') {
    const windows = [...found.windows].sort((a, b) => Math.abs(b.sum) - Math.abs(a.sum)), most = 6;
    for (const each of windows.slice(0, most)) {
      const products = each.x.map((values, i) => values.map((value, j) => value * each.w[i][j]));
      parts.push(make('div', {}, make('h3', { textContent: `input channel ${each.channel}: ${format(each.sum)}` }), scrolled(make('div', { className: 'parts' },
        make('figure', {}, grid(each.x, 'window x'), make('figcaption', { textContent: 'window x' })),
        make('figure', {}, grid(each.w, 'filter w'), make('figcaption', { textContent: 'filter w' })),
        make('figure', {}, grid(products, 'products'), make('figcaption', { textContent: `x · w, sum ${format(each.sum)}` }))))));
    }
    const rest = windows.slice(most).reduce((sum, each) => sum + each.sum, 0);
    if (windows.length > most) parts.push(line(`${windows.length - most} other channels: ${format(rest)}`));
  }
  if (found.kind === 'terms') {
    parts.push(scrolled(table(['feature', 'x', 'w', 'x · w'], found.terms.slice(0, 16).map(t => [t.feature, format(t.x), format(t.w), format(t.product)]))));
    const rest = found.rest + found.terms.slice(16).reduce((sum, t) => sum + t.product, 0);
    if (found.terms.length + found.others > 16) parts.push(line(`${Math.max(0, found.terms.length - 16) + found.others} other features: ${format(rest)}`));
  }
  if (found.kind === 'window') parts.push(scrolled(grid(found.x, 'window x')));
  if (found.kind === 'numbers') parts.push(scrolled(table(['', 'value'], Object.entries(found.numbers).map(([name, value]) => [name, format(value)]))));
  if (found.count) parts.push(line(`Σ x / n = ${format(found.sum)} / ${found.count}`));
  else if (found.sum !== undefined) parts.push(line(`Σ x · w${found.bias === null ? '' : ' + b'} = ${format(found.sum)}${found.bias === null ? '' : ` + ${format(found.bias)}`}`));
  const value = make('p', {}, make('strong', { id: 'value', textContent: `y = ${format(found.value)}` }));
  value.dataset.value = found.value;
  parts.push(value);
  if (found.activation) parts.push(line(`then ${found.activation.layer}: ${found.activation.formula} = ${format(found.activation.value)}`));
  return parts;
}

// Drawings as the input of a network. A stroke is {points: [[x, y], …], width, color}, all from 0 to 1 of the pad.

const byId = id => document.getElementById(id);

function makeCanvas(width, height) {
  const canvas = document.createElement('canvas');
  canvas.width = width;
  canvas.height = height;
  return canvas;
}

function paint(context, strokes, position, lineWidth, color) {
  context.lineCap = context.lineJoin = 'round';
  for (const stroke of strokes) {
    const points = stroke.points.map(position);
    context.strokeStyle = context.fillStyle = color || stroke.color;
    context.lineWidth = lineWidth(stroke);
    context.beginPath();
    context.moveTo(points[0][0], points[0][1]);
    if (points.length === 1) context.lineTo(points[0][0] + 0.01, points[0][1]);
    for (const point of points.slice(1)) context.lineTo(point[0], point[1]);
    context.stroke();
  }
}

// The ink of gray pixels, 0 to 255, row by row.
function redOf(context, width, height) {
  const data = context.getImageData(0, 0, width, height).data;
  const ink = new Uint8Array(width * height);
  for (let i = 0; i < ink.length; i++) ink[i] = data[4 * i];
  return ink;
}

// The context of a new canvas whose pixels are read, so that they are best not kept by a GPU.
const readable2d = (width, height) => makeCanvas(width, height).getContext('2d', { willReadFrequently: true });

function blank(width, height) {
  const context = readable2d(width, height);
  context.fillStyle = '#000';
  context.fillRect(0, 0, width, height);
  context.imageSmoothingQuality = 'high';
  return context;
}

function centerOfMass(ink, width) {
  let sum = 0, x = 0, y = 0;
  ink.forEach((value, i) => {
    sum += value;
    x += value * (i % width + 0.5);
    y += value * (Math.floor(i / width) + 0.5);
  });
  return sum ? [x / sum, y / sum] : null;
}

// Ink (h, w) in the training set's form: `render(context, dx, dy)` draws it with its box in the middle, shifted.
function centered(render, form, height, width) {
  let context = blank(width, height);
  render(context, 0, 0);
  let ink = redOf(context, width, height);
  const mass = form.center === 'mass' ? centerOfMass(ink, width) : null;
  if (mass) {
    context = blank(width, height);
    render(context, width / 2 - mass[0], height / 2 - mass[1]);
    ink = redOf(context, width, height);
  }
  return form.light ? ink : ink.map(value => 255 - value);
}

// Strokes drawn again with the form's stroke width, in its box.
function strokesInForm(strokes, form, height, width) {
  let [x0, x1, y0, y1] = [Infinity, -Infinity, Infinity, -Infinity];
  for (const stroke of strokes) {
    for (const [x, y] of stroke.points) [x0, x1, y0, y1] = [Math.min(x0, x), Math.max(x1, x), Math.min(y0, y), Math.max(y1, y)];
  }
  const scale = (form.box - form.width) / Math.max(x1 - x0, y1 - y0, 0.02);
  return centered((context, dx, dy) => {
    const position = ([x, y]) => [(x - (x0 + x1) / 2) * scale + width / 2 + dx, (y - (y0 + y1) / 2) * scale + height / 2 + dy];
    paint(context, strokes, position, () => form.width, '#fff');
  }, form, height, width);
}

// A picture of strokes, such as a photograph of a digit: its ink, cropped to its box. The pen's width stays.
function pictureInForm(canvas, form, height, width) {
  const size = 280, context = blank(size, size);
  context.drawImage(canvas, 0, 0, size, size);
  const image = context.getImageData(0, 0, size, size), data = image.data;
  const border = [], gray = i => 0.299 * data[i] + 0.587 * data[i + 1] + 0.114 * data[i + 2];
  for (let i = 0; i < size; i++) {
    for (const pixel of [i, i + size * (size - 1), i * size, i * size + size - 1]) border.push(gray(4 * pixel));
  }
  const paper = border.sort((a, b) => a - b)[border.length >> 1];
  let most = 1, x0 = size, y0 = size, x1 = 0, y1 = 0;
  const ink = new Float32Array(size * size);
  for (let i = 0; i < ink.length; i++) most = Math.max(most, ink[i] = Math.abs(gray(4 * i) - paper));
  for (let i = 0; i < ink.length; i++) {
    const value = Math.max(0, Math.min(1, (ink[i] / most - 0.2) / 0.5));
    data[4 * i] = data[4 * i + 1] = data[4 * i + 2] = 255 * value;
    data[4 * i + 3] = 255;
    if (value > 0.3) {
      x0 = Math.min(x0, i % size); x1 = Math.max(x1, i % size + 1);
      y0 = Math.min(y0, Math.floor(i / size)); y1 = Math.max(y1, Math.floor(i / size) + 1);
    }
  }
  if (x1 <= x0) return centered(() => {}, form, height, width);
  context.putImageData(image, 0, 0);
  const scale = form.box / Math.max(x1 - x0, y1 - y0), w = (x1 - x0) * scale, h = (y1 - y0) * scale;
  return centered((target, dx, dy) => {
    let source = context.canvas, x = x0, y = y0, sw = x1 - x0, sh = y1 - y0;
    while (Math.max(sw, sh) > 2.5 * form.box) { // halve, so that no ink is skipped
      const half = blank(Math.ceil(sw / 2), Math.ceil(sh / 2));
      half.drawImage(source, x, y, sw, sh, 0, 0, sw / 2, sh / 2);
      [source, x, y, sw, sh] = [half.canvas, 0, 0, sw / 2, sh / 2];
    }
    target.drawImage(source, x, y, sw, sh, (width - w) / 2 + dx, (height - h) / 2 + dy, w, h);
  }, form, height, width);
}

// The drawing of a pad on a canvas of its own, to which only the newest parts of strokes are added.
class Trace {
  constructor(pad, width, height) {
    Object.assign(this, { pad, width, height, context: readable2d(width, height) });
  }

  update() {
    const { pad, context, width, height } = this;
    if (this.strokes !== pad.strokes || this.base !== pad.base || this.paper !== pad.paper) this.restart();
    for (let i = Math.max(0, this.ends.length - 1); i < pad.strokes.length; i++) {
      const stroke = pad.strokes[i], end = this.ends[i] || 0;
      if (end < stroke.points.length) paint(context, [{ ...stroke, points: stroke.points.slice(Math.max(0, end - 1)) }], ([x, y]) => [x * width, y * height], each => each.width * width);
      this.ends[i] = stroke.points.length;
    }
    return context.canvas;
  }

  restart() {
    const { pad, context, width, height } = this, { strokes, base, paper } = pad;
    Object.assign(this, { strokes, base, paper, ends: [] });
    context.fillStyle = paper;
    context.fillRect(0, 0, width, height);
    context.imageSmoothingEnabled = !pad.exact;
    if (base) context.drawImage(base, 0, 0, width, height);
  }
}

// A drawing area: strokes over a base picture, with mouse, finger, pen and keyboard.
class Pad {
  constructor(canvas, options, changed) {
    Object.assign(this, { canvas, changed, strokes: [], base: null, exact: null, color: '#000', paper: '#fff', width: 20, traces: {} });
    Object.assign(this, options);
    this.cursor = [0.5, 0.5];
    this.current = null;
    canvas.addEventListener('pointerdown', event => this.down(event));
    canvas.addEventListener('pointermove', event => this.move(event));
    for (const name of ['pointerup', 'pointercancel']) canvas.addEventListener(name, () => { this.current = null; });
    canvas.addEventListener('keydown', event => this.key(event));
    canvas.addEventListener('blur', () => { this.current = null; this.show(); });
    this.show();
  }

  position(event) {
    const box = this.canvas.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  }

  begin(point) {
    this.current = { points: [point], width: this.width / this.canvas.width, color: this.color };
    this.strokes.push(this.current);
    this.update();
  }

  down(event) {
    event.preventDefault();
    this.keyed = false;
    this.canvas.focus({ preventScroll: true });
    this.canvas.setPointerCapture(event.pointerId);
    this.begin(this.position(event));
  }

  move(event) {
    if (!this.current || !event.buttons) return;
    const events = event.getCoalescedEvents ? event.getCoalescedEvents() : [];
    for (const each of events.length ? events : [event]) this.current.points.push(this.position(each));
    this.update();
  }

  key(event) {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (step) {
      this.cursor = this.cursor.map((value, i) => Math.min(1, Math.max(0, value + step[i] * (event.shiftKey ? 0.01 : 0.04))));
      if (this.current) this.current.points.push([...this.cursor]);
    } else if (event.key === ' ') {
      if (this.current) this.current = null; else this.begin([...this.cursor]);
      if (this.told) this.told(this.current ? 'The pen is down.' : 'The pen is up.');
    } else return;
    this.keyed = true;
    event.preventDefault();
    this.update();
  }

  update() {
    this.show();
    this.changed();
  }

  clear() {
    Object.assign(this, { strokes: [], base: null, exact: null, current: null });
    this.update();
  }

  undo() {
    Object.assign(this, { strokes: this.strokes.slice(0, -1), current: null });
    this.update();
  }

  get empty() {
    return !this.strokes.length && !this.base;
  }

  // The drawing, in a size.
  drawn(width, height) {
    const name = `${width}×${height}`;
    this.traces[name] ??= new Trace(this, width, height);
    return this.traces[name].update();
  }

  show() {
    const { width, height } = this.canvas, context = this.canvas.getContext('2d');
    context.drawImage(this.drawn(width, height), 0, 0);
    if (this.keyed && document.activeElement === this.canvas) {
      context.fillStyle = '#d33';
      context.fillRect(this.cursor[0] * width - 4, this.cursor[1] * height - 4, 8, 8);
    }
  }

  // The input of a network, (h, w, c) bytes, in the form of a training set of strokes if that is known.
  pixels() {
    const { form, shape: [height, width, channels] } = this;
    if (this.exact && !this.strokes.length) return this.exact;
    if (form && !this.exact && channels === 1) {
      if (this.empty) return new Uint8Array(height * width).fill(form.light ? 0 : 255);
      if (!this.base) return strokesInForm(this.strokes, form, height, width);
      return pictureInForm(this.drawn(308, 308), form, height, width);
    }
    const scale = Math.max(1, Math.min(4, Math.floor(1024 / Math.max(width, height))));
    const small = blank(width, height);
    small.drawImage(this.drawn(width * scale, height * scale), 0, 0, width, height);
    const data = small.getImageData(0, 0, width, height).data, result = new Uint8Array(height * width * channels);
    for (let i = 0; i < height * width; i++) {
      if (channels === 3) for (let c = 0; c < 3; c++) result[3 * i + c] = data[4 * i + c];
      else result[i] = Math.round(0.299 * data[4 * i] + 0.587 * data[4 * i + 1] + 0.114 * data[4 * i + 2]);
    }
    return result;
  }
}

// Bytes (h, w, c) on a canvas of their size.
function showPixels(canvas, pixels, shape) {
  const [height, width, channels] = shape;
  canvas.width = width;
  canvas.height = height;
  const image = new ImageData(width, height);
  for (let i = 0; i < width * height; i++) {
    for (let c = 0; c < 3; c++) image.data[4 * i + c] = pixels[channels === 3 ? 3 * i + c : i * channels];
    image.data[4 * i + 3] = 255;
  }
  canvas.getContext('2d').putImageData(image, 0, 0);
}

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name in element && name !== 'list') element[name] = value; else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

// Probabilities as bars; the most probable first if there are more than `most`. `colors`: of names, shown beside them.
function showBars(list, entries, { most = 12, colors = {} } = {}) {
  const best = entries.reduce((a, b) => (b[1] > a[1] ? b : a), ['', 0])[0];
  const shown = entries.length <= most ? entries : [...entries].sort((a, b) => b[1] - a[1]).slice(0, most);
  if (list.children.length !== shown.length) {
    list.replaceChildren(...shown.map(() => make('li', {}, make('span', { className: 'name' }),
      make('div', { className: 'track' }, make('div')), make('span', { className: 'number' }))));
  }
  shown.forEach(([name, value], i) => {
    const [label, track, number] = list.children[i].children;
    const swatch = colors[name] ? [make('span', { className: 'swatch' })] : [];
    for (const each of swatch) each.style.background = colors[name];
    label.replaceChildren(...swatch, name);
    label.className = name === best ? 'name best' : 'name';
    track.firstChild.style.width = `${100 * value}%`;
    number.textContent = `${(100 * value).toFixed(1)} %`;
  });
}

// Dropped, pasted and chosen image files.
function takeImages(target, input, take) {
  const decode = files => {
    const file = [...files].find(each => each.type.startsWith('image/'));
    if (file) createImageBitmap(file).then(take, () => take(null)); else take(null);
  };
  const forget = () => { input.value = ''; }; // so that the name of an earlier file goes, and it can be chosen again
  for (const name of ['dragover', 'drop']) target.addEventListener(name, event => event.preventDefault());
  target.addEventListener('drop', event => { forget(); decode(event.dataTransfer.files); });
  target.addEventListener('paste', event => { forget(); decode(event.clipboardData.files); });
  input.addEventListener('click', forget);
  input.addEventListener('change', () => { if (input.files.length) decode(input.files); });
}

// What a transparent picture is put on, as the server does: white, or black if its opaque pixels are nearly white.
function ground(bitmap) {
  const size = 64, context = readable2d(size, size);
  context.drawImage(bitmap, 0, 0, size, size);
  const data = context.getImageData(0, 0, size, size).data;
  let opacity = 0, distance = 0;
  for (let i = 0; i < data.length; i += 4) {
    opacity += data[i + 3];
    distance += data[i + 3] * (255 - 0.299 * data[i] - 0.587 * data[i + 1] - 0.114 * data[i + 2]);
  }
  return distance < 32 * opacity ? '#000' : '#fff';
}

// A picture as the base of the pad, cropped or fitted as the training images were.
function inFrame(bitmap, fit, paper, width, height) {
  const canvas = makeCanvas(width, height), context = canvas.getContext('2d');
  context.fillStyle = paper;
  context.fillRect(0, 0, width, height);
  context.imageSmoothingQuality = 'high';
  const factors = [width / bitmap.width, height / bitmap.height];
  const factor = fit === 'crop' ? Math.max(...factors) : Math.min(...factors);
  const w = fit === 'stretch' ? width : bitmap.width * factor, h = fit === 'stretch' ? height : bitmap.height * factor;
  const place = [(width - w) / 2, (height - h) / 2, w, h];
  context.fillStyle = ground(bitmap);
  context.fillRect(...place);
  context.drawImage(bitmap, ...place);
  return canvas;
}

// The drawing area of a page with its buttons. `model`: shape of the input, form of strokes or null, light, fit.
function makePad({ shape, form, light, fit }, changed, tell) {
  const canvas = byId('pad'), gray = shape[2] === 1, dark = light && gray;
  canvas.height = Math.round(308 * shape[0] / shape[1]);
  canvas.style.aspectRatio = `${shape[1]} / ${shape[0]}`;
  byId('pen-color').classList.toggle('hidden', gray);
  const pad = new Pad(canvas, { paper: dark ? '#000' : '#fff', color: dark ? '#fff' : gray ? '#000' : byId('color').value,
    shape, form, told: text => { byId('pad-state').textContent = text; } }, changed);
  byId('clear').addEventListener('click', () => { byId('label').textContent = byId('file').value = ''; tell(''); pad.clear(); });
  byId('undo').addEventListener('click', () => pad.undo());
  byId('width').addEventListener('input', () => { pad.width = Number(byId('width').value); });
  byId('color').addEventListener('input', () => { pad.color = byId('color').value; });
  takeImages(document, byId('file'), bitmap => {
    tell(bitmap ? '' : 'That is not an image that this browser can read.');
    if (!bitmap) return;
    byId('label').textContent = '';
    Object.assign(pad, { strokes: [], exact: null, current: null, base: inFrame(bitmap, fit, pad.paper, 2 * canvas.width, 2 * canvas.height) });
    pad.update();
  });
  return pad;
}

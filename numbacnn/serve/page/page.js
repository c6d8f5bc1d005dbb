// The page of a model. One look, and one score, is asked at a time; the newest drawing is asked next.

const state = { model: null, pixels: null, noise: 0, seed: 0, off: [], asking: false, waiting: null, asked: null, measuring: false, unmeasured: false };
const UNREACHED = 'The server does not answer. Was it stopped? Once it runs again, draw on or reload this page.';
const ENDED = 'The training has ended, and its server with it: the page keeps what it shows, but nothing new is computed.';
const timings = []; // milliseconds from an event to what it changed on the page
globalThis.numbacnn = { state, timings, training };
let pad, views, scoreTimer;

async function ask(address, options) {
  const answer = await fetch(address, options).catch(() => { throw new Error(training.ended ? ENDED : UNREACHED); });
  if (answer.ok) return answer;
  const found = await answer.json().catch(() => ({ error: `${answer.status}` }));
  throw new Error(found.error);
}

const post = (address, body) => ask(address, { method: 'POST', body });
const tell = text => { byId('status').textContent = text; };

function parameters(more = {}) {
  const changed = state.noise || state.off.length;
  const found = new URLSearchParams(more);
  if (changed) found.set('changes', JSON.stringify({ noise: state.noise, seed: state.seed, off: state.off }));
  return found.toString();
}

// -- looks

function changed() {
  if (!state.model) return;
  state.waiting ??= performance.now();
  if (!state.asking) look();
}

function covered(pixels, [height, width, channels]) {
  const size = Number(byId('cover').value);
  if (!size) return pixels;
  const [top, left] = corner(size), copy = pixels.slice();
  for (let y = Math.round(top * height); y < Math.round((top + size) * height); y++) {
    for (let x = Math.round(left * width); x < Math.round((left + size) * width); x++) copy.fill(128, (y * width + x) * channels, (y * width + x + 1) * channels);
  }
  return copy;
}

const corner = size => ['cover-row', 'cover-column'].map(id => Number(byId(id).value) * (1 - size));

async function look() {
  state.asking = true;
  while (state.waiting !== null) {
    const start = state.waiting;
    state.waiting = null;
    try {
      const pixels = covered(pad.pixels(), state.model.input_shape);
      const more = byId('cam-class').value ? { class: byId('cam-class').value } : {};
      const open = views.find(view => view.all.getAttribute('aria-pressed') === 'true');
      if (open) more.layer = open.layer.name;
      const seen = views.filter(view => view.visible);
      more.layers = JSON.stringify(seen.map(view => view.layer.name));
      for (const view of views) view.stale = !view.visible;
      const bytes = await (await post(`look?${parameters(more)}`, pixels)).arrayBuffer();
      state.pixels = pixels;
      show(bytes, pixels);
      timings.push(performance.now() - start);
      tell('');
    } catch (error) {
      tell(error.message);
    }
  }
  state.asking = false;
  if (state.asked) explain(state.asked.layer, state.asked.position, false);
}

function show(bytes, pixels) {
  const length = new DataView(bytes).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(bytes, 4, length)));
  const values = new Uint8Array(bytes, 4 + length);
  let start = 0;
  const next = count => values.subarray(start, start += count);
  for (const layer of header.layers) {
    const [h, w] = layer.shape.length === 3 ? layer.shape : [1, 1];
    views.find(view => view.layer.name === layer.name).show(layer, next(layer.count * h * w));
  }
  const shape = state.model.input_shape;
  showPixels(byId('input'), pixels, shape);
  if (header.cam) showCam(header.cam, next(header.cam.shape[0] * header.cam.shape[1]), pixels, shape);
  byId('cam-figure').classList.toggle('hidden', !header.cam);
  byId('cam-label').classList.toggle('hidden', !header.cam);
  showPrediction(header.prediction);
  state.prediction = header.prediction;
}

function showCam(header, heat, pixels, shape) {
  const canvas = byId('cam'), context = canvas.getContext('2d'), [h, w] = header.shape;
  showPixels(canvas, pixels.map(value => 77 + 0.7 * value), shape);
  const still = makeCanvas(shape[1], shape[0]);
  still.getContext('2d').drawImage(canvas, 0, 0);
  canvas.width = 140;
  canvas.height = Math.round(140 * shape[0] / shape[1]);
  context.imageSmoothingEnabled = false;
  context.drawImage(still, 0, 0, canvas.width, canvas.height);
  const map = makeCanvas(w, h), image = new ImageData(w, h);
  heat.forEach((value, i) => image.data.set([...COLORS[value], 216 * Math.sqrt(value / 255)], 4 * i));
  map.getContext('2d').putImageData(image, 0, 0);
  context.imageSmoothingEnabled = true;
  context.drawImage(map, 0, 0, canvas.width, canvas.height);
  byId('cam-caption').textContent = `Grad-CAM: evidence for ${header.class} in ${header.layer}`;
}

// -- predictions of each task

function showPrediction(found) {
  if (pad.empty) byId('answer').textContent = 'Draw something.';
  else if (found.class !== undefined) byId('answer').replaceChildren('It is ', make('strong', { textContent: found.class }), `, with ${(100 * found.probabilities[found.class]).toFixed(1)} %.`);
  else if (found.boxes) showBoxes(found.boxes);
  else if (found.mask) showMask(found);
  else if (found.values) byId('answer').textContent = `Values: ${found.values.map(format).join(', ')}`;
  else byId('answer').textContent = `Tags: ${state.model.classes.filter(name => found.probabilities[name] >= 0.5).join(', ') || 'none of at least 50 %'}`;
  if (found.probabilities) showBars(byId('bars'), inOrder(found.probabilities).map(([name, p]) => [name, pad.empty ? 0 : p]));
}

// [name, value] in the order of the classes. Objects put names that are whole numbers first.
const inOrder = values => state.model.classes.filter(name => name in values).map(name => [name, values[name]]);

function largeInput() {
  const canvas = byId('input'), scale = Math.max(1, Math.round(320 / canvas.width)), copy = makeCanvas(canvas.width, canvas.height);
  copy.getContext('2d').drawImage(canvas, 0, 0);
  canvas.width *= scale;
  canvas.height *= scale;
  const context = canvas.getContext('2d');
  context.imageSmoothingEnabled = false;
  context.drawImage(copy, 0, 0, canvas.width, canvas.height);
  return [context, scale];
}

function showBoxes(boxes) {
  const [context, scale] = largeInput();
  context.font = '14px sans-serif';
  for (const { class: name, score, box } of boxes) {
    const [x0, y0, x1, y1] = box.map(value => value * scale), text = `${name} ${(100 * score).toFixed(0)} %`;
    context.strokeStyle = context.fillStyle = '#ee7733';
    context.lineWidth = 2;
    context.strokeRect(x0, y0, x1 - x0, y1 - y0);
    context.fillRect(x0, Math.max(0, y0 - 18), context.measureText(text).width + 6, 18);
    context.fillStyle = '#000';
    context.fillText(text, x0 + 3, Math.max(0, y0 - 18) + 14);
  }
  byId('answer').textContent = boxes.length ? `${boxes.length} found: ${boxes.map(b => `${b.class} ${(100 * b.score).toFixed(0)} %`).join(', ')}` : 'Nothing found.';
}

function showMask(found) {
  const image = new Image();
  image.onload = () => {
    const [context, scale] = largeInput();
    context.globalAlpha = 0.6;
    context.drawImage(image, 0, 0, image.width * scale, image.height * scale);
  };
  image.src = `data:image/png;base64,${found.mask}`;
  byId('answer').textContent = 'Share of each class:';
  const { classes, colors } = state.model;
  showBars(byId('bars'), inOrder(found.shares), { colors: Object.fromEntries(classes.map((name, i) => [name, colors[i]])) });
}

// -- one number

async function explain(layer, position, scroll = true) {
  state.asked = { layer, position };
  if (!state.pixels) return;
  try {
    const found = await (await post(`explain?${parameters({ layer: layer.name, ...position })}`, state.pixels)).json();
    const parts = explanation(found);
    if (layer.weights) {
      const off = state.off.some(([name, index]) => name === layer.name && index === position.channel);
      const button = make('button', { type: 'button', textContent: `Switch ${layer.shape.length === 3 ? 'filter' : 'feature'} ${position.channel} ${off ? 'on' : 'off'}` });
      button.addEventListener('click', () => toggle(layer.name, position.channel));
      parts.push(make('div', { className: 'row' }, button));
    }
    parts.push(backTo(layer));
    byId('why').replaceChildren(...parts);
    if (scroll && innerWidth < 900) byId('why').scrollIntoView();
    state.explained = found;
  } catch (error) {
    tell(error.message);
  }
}

// Where the panel is below the maps, a way back to the one that was clicked.
function backTo(layer) {
  const button = make('button', { type: 'button', textContent: `Back to ${layer.name}` });
  button.addEventListener('click', () => {
    const { element, canvas } = views.find(view => view.layer.name === layer.name);
    element.scrollIntoView();
    canvas.focus({ preventScroll: true });
  });
  return make('div', { className: 'row narrow-only' }, button);
}

// -- break it

function toggle(layer, index) {
  const rest = state.off.filter(([name, other]) => name !== layer || other !== index);
  state.off = rest.length < state.off.length ? rest : [...rest, [layer, index]];
  broken();
}

function broken() {
  for (const view of views) {
    const off = state.off.some(([name, index]) => name === view.layer.name && index === null);
    view.button.setAttribute('aria-pressed', String(off));
    view.button.textContent = off ? 'Switch on' : 'Switch off';
  }
  byId('noise-value').textContent = String(state.noise);
  byId('off').textContent = state.off.length ? `Off: ${state.off.map(([name, index]) => index === null ? name : `${name} ${index}`).join(', ')}`
    : 'Layers below can be switched off; so can each filter, after a click on its map.';
  changed();
  clearTimeout(scoreTimer);
  scoreTimer = setTimeout(measure, 150);
}

async function measure() {
  if (!state.model.test_images) return;
  state.unmeasured = true;
  if (state.measuring) return;
  state.measuring = true;
  while (state.unmeasured) {
    state.unmeasured = false;
    await measureOnce();
  }
  state.measuring = false;
}

async function measureOnce() {
  const size = Number(byId('cover').value), more = {};
  if (size) {
    const [top, left] = corner(size);
    more.occlusion = JSON.stringify({ top, left, size });
  }
  try {
    const found = await (await post(`measure?${parameters(more)}`)).json();
    state.whole ??= found.score;
    const before = found.score === state.whole ? '' : `, unchanged ${(100 * state.whole).toFixed(1)} %`;
    byId('score').textContent = `${found.name} on ${found.images} test images: ${(100 * found.score).toFixed(1)} %${before}`;
    state.score = found.score;
  } catch (error) {
    tell(error.message);
  }
}

// Maps are asked for while they are in sight, or nearly.
function watchViews() {
  const watcher = new IntersectionObserver(entries => {
    for (const entry of entries) {
      const view = views.find(each => each.element === entry.target);
      view.visible = entry.isIntersecting;
      if (view.visible && view.stale) changed();
    }
  }, { rootMargin: '300px' });
  for (const view of views) watcher.observe(view.element);
}

// -- start

function listen() {
  const on = (id, name, act) => byId(id).addEventListener(name, act);
  on('cam-class', 'change', changed);
  on('noise', 'input', () => { state.noise = Number(byId('noise').value); broken(); });
  on('seed', 'click', () => { state.seed++; broken(); });
  for (const id of ['cover', 'cover-row', 'cover-column']) on(id, 'input', broken);
  on('repair', 'click', () => {
    Object.assign(state, { noise: 0, off: [] });
    byId('noise').value = byId('cover').value = 0;
    broken();
  });
  on('example', 'click', example);
}

async function example() {
  try {
    const index = Math.floor(Math.random() * state.model.test_images);
    const found = await (await ask(`example?index=${index}`)).json();
    const pixels = Uint8Array.from(atob(found.pixels), character => character.charCodeAt(0)), base = makeCanvas(1, 1);
    showPixels(base, pixels, state.model.input_shape);
    Object.assign(pad, { strokes: [], exact: pixels, base });
    byId('file').value = '';
    byId('label').textContent = `Test image ${index}${found.class === null ? '' : `: ${found.class}`}`;
    pad.update();
  } catch (error) {
    tell(error.message);
  }
}

function describe(model) {
  document.title = `numbacnn: ${model.name}`;
  byId('title').textContent = model.name;
  const classes = model.classes.length ? `, ${model.classes.length} classes` : '';
  byId('about').textContent = `${model.task}${classes}, input ${model.input_shape.join('×')}, ${model.parameters.toLocaleString('en')} parameters`;
  byId('example').classList.toggle('hidden', !model.test_images);
  const shown = { segment: ', with the class of each pixel', detect: ', with the boxes found' }[model.task];
  if (shown) byId('input-caption').textContent = `its input${shown}`;
  if (model.form) byId('input-caption').textContent = `its input: the drawing in the training set's form, a box of ${model.form.box} pixels, strokes of ${model.form.width}, ${model.form.center === 'mass' ? 'center of mass' : 'box'} in the middle`;
  byId('views').classList.toggle('large', model.task === 'detect' || model.task === 'segment');
  byId('cam-class').replaceChildren(make('option', { value: '', textContent: 'the prediction' }), ...model.classes.map(name => make('option', { value: name, textContent: name })));
}

// A training may name the classes after the page has been opened.
function takeClasses(classes) {
  if (!state.model || JSON.stringify(classes) === JSON.stringify(state.model.classes)) return;
  const chosen = byId('cam-class').value;
  state.model.classes = classes;
  describe(state.model);
  byId('cam-class').value = classes.includes(chosen) ? chosen : '';
  changed();
}

function showLayers(model) {
  views = model.layers.map(layer => new LayerView(layer, explain));
  for (const view of views) {
    view.button.addEventListener('click', () => toggle(view.layer.name, null));
    view.all.addEventListener('click', () => {
      for (const other of views) other.all.setAttribute('aria-pressed', String(other === view && view.all.getAttribute('aria-pressed') !== 'true'));
      changed();
    });
  }
  byId('layers').replaceChildren(...views.map(view => view.element));
  for (const view of views) view.layOut(view.layer.shape, view.layer.count);
  watchViews();
}

async function start() {
  const model = await (await ask('model')).json();
  describe(model);
  if (model.training) followTraining();
  for (const id of ['drawing', 'inside']) byId(id).classList.toggle('hidden', !model.drawable);
  if (!model.drawable) return;
  const light = model.form ? model.form.light : model.light_on_dark === true;
  pad = makePad({ shape: model.input_shape, form: model.form, light, fit: model.fit }, changed, tell);
  numbacnn.pad = pad;
  state.model = model;
  showLayers(model);
  listen();
  changed();
  if (!model.training) measure();
}

start().catch(error => tell(error.message));

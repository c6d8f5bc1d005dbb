// The part of the page about a training. Server-sent events bring everything so far, then what is new.

const training = { points: [], epochs: [], ended: false };
// Colors that color-blind readers can distinguish (Okabe and Ito 2008; Tol 2021), readable on light and dark.
const LINES = ['#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9', '#117733', '#882255', '#999933', '#aa4499'];

const bytesOf = text => Uint8Array.from(atob(text), character => character.charCodeAt(0));
const short = value => value === null || value === undefined ? '–' : Math.abs(value) >= 1000 ? Math.round(value).toLocaleString('en')
  : value && Math.abs(value) < 0.001 ? value.toExponential(1) : String(Number(value.toPrecision(3)));

// Lines {name, points: [[x, y], …], color, marks} on one pair of axes; `log` for a logarithmic one, `zero` from 0 on.
function chart(id, lines, { log = false, zero = false } = {}) {
  const canvas = byId(id), scale = devicePixelRatio || 1, style = getComputedStyle(document.body);
  const width = canvas.clientWidth, height = canvas.clientHeight;
  if (canvas.width !== width * scale || canvas.height !== height * scale) Object.assign(canvas, { width: width * scale, height: height * scale });
  const context = canvas.getContext('2d');
  context.setTransform(scale, 0, 0, scale, 0, 0);
  context.clearRect(0, 0, width, height);
  lines = lines.map(line => ({ ...line, points: line.points.filter(([, y]) => y !== null && y !== undefined && (!log || y > 0)) })).filter(line => line.points.length);
  const ends = lines.map(line => `${line.name} ${short(line.points.at(-1)[1])}`).join(', ');
  canvas.setAttribute('aria-label', ends || 'nothing yet');
  if (!lines.length) return;
  const to = log ? Math.log10 : value => value, all = lines.flatMap(line => line.points), xs = all.map(point => point[0]), ys = all.map(point => to(point[1]));
  const most = (list, pick) => list.reduce((a, b) => pick(a, b));
  let x0 = most(xs, Math.min), x1 = most(xs, Math.max), y0 = most(ys, Math.min), y1 = most(ys, Math.max);
  if (x1 === x0) x1 = x0 + 1;
  if (zero) [y0, y1] = [0, y1 || 1];
  if (y1 - y0 < 1e-9) [y0, y1] = [y0 - Math.abs(y0) * 0.1 - 1e-9, y1 + Math.abs(y1) * 0.1 + 1e-9];
  context.font = '12px system-ui, sans-serif';
  const levels = [0, 1, 2, 3, 4].map(i => y0 + i / 4 * (y1 - y0)), labels = levels.map(value => short(log ? 10 ** value : value));
  const left = Math.max(52, ...labels.map(text => Math.ceil(context.measureText(text).width) + 8));
  const rows = legend(context, lines, left, width), [right, top, bottom] = [width - 8, 8 + 16 * rows, height - 22];
  const X = x => left + (x - x0) / (x1 - x0) * (right - left), Y = y => bottom - (to(y) - y0) / (y1 - y0) * (bottom - top);
  context.strokeStyle = style.getPropertyValue('--line');
  context.fillStyle = style.getPropertyValue('--soft');
  context.lineWidth = 1;
  for (let i = 0; i <= 4; i++) {
    const y = bottom - i / 4 * (bottom - top);
    context.beginPath();
    context.moveTo(left, y);
    context.lineTo(right, y);
    context.stroke();
    context.textAlign = 'right';
    context.fillText(labels[i], left - 6, y + 4);
  }
  context.textAlign = 'left';
  context.fillText(`step ${short(x0)}`, left, height - 6);
  context.textAlign = 'right';
  context.fillText(short(x1), right, height - 6);
  for (const line of lines) {
    context.strokeStyle = context.fillStyle = line.color;
    context.lineWidth = 2;
    context.beginPath();
    line.points.forEach(([x, y], i) => i ? context.lineTo(X(x), Y(y)) : context.moveTo(X(x), Y(y)));
    context.stroke();
    for (const [x, y] of line.marks || line.points.length < 2 ? line.points : []) context.fillRect(X(x) - 3, Y(y) - 3, 6, 6);
  }
}

// Names beside a mark in their colors, above the axes; returns the number of rows.
function legend(context, lines, left, width) {
  const style = getComputedStyle(document.body);
  let x = left, row = 1;
  for (const line of lines) {
    const size = context.measureText(line.name).width + 26;
    if (x + size > width && x > left) [x, row] = [left, row + 1];
    context.fillStyle = line.color;
    context.fillRect(x, 16 * row - 10, 10, 10);
    context.fillStyle = style.getPropertyValue('--text');
    context.textAlign = 'left';
    context.fillText(line.name, x + 14, 16 * row - 1);
    x += size;
  }
  return row;
}

function drawCharts() {
  const { points, epochs } = training;
  const last = points.at(-1), perEpoch = last ? last.steps / last.epochs : 1;
  const of = key => points.map(point => [point.step, point[key]]), after = key => epochs.map(epoch => [epoch.epoch * perEpoch, epoch[key]]);
  chart('loss', [{ name: 'training', points: of('loss'), color: LINES[0] }, { name: 'validation', points: after('validation_loss'), color: LINES[1], marks: true }]);
  chart('accuracy', [{ name: 'training', points: of('accuracy'), color: LINES[0] }, { name: 'validation', points: after('validation_accuracy'), color: LINES[1], marks: true },
    { name: 'mean IoU or mAP', points: after('validation_score'), color: LINES[2], marks: true }]);
  const rates = of('learning_rate');
  chart('rate', [{ name: 'learning rate', points: rates.some(([, y]) => y !== null) ? rates : after('learning_rate'), color: LINES[2] }], { zero: true });
  chart('speed', [{ name: 'images/s', points: of('images_per_second').slice(1), color: LINES[0] }], { zero: true });
  const layers = last ? Object.keys(last.norms) : [], shown = layers.filter((_, i) => layers.length <= 10 || i % Math.ceil(layers.length / 10) === 0);
  chart('norms', shown.map((name, i) => ({ name, points: points.map(point => [point.step, point.norms[name]]), color: LINES[i % LINES.length] })), { log: true });
}

function showFilters(found) {
  if (!found) return;
  const [count, h, w, c] = found.shape, bytes = bytesOf(found.tiles);
  byId('filters-text').textContent = `${found.layer}: ${count} filters; gray is 0, black and white are ±${short(found.scale)}`;
  const box = byId('filters');
  if (box.children.length !== count) box.replaceChildren(...Array.from({ length: count }, (_, i) => make('canvas', { role: 'img', ariaLabel: `filter ${i}` })));
  for (let i = 0; i < count; i++) showPixels(box.children[i], bytes.subarray(i * h * w * c, (i + 1) * h * w * c), [h, w, c]);
}

function showMistakes(found) {
  if (!found) return;
  byId('mistakes-text').textContent = `After epoch ${found.epoch}: ${found.list.length ? 'the most confident ones, what they are, and what they are taken for.' : 'none'}`;
  byId('mistakes').replaceChildren(...found.list.map(each => {
    const canvas = make('canvas', { role: 'img', ariaLabel: `${each.class} taken for ${each.predicted}` });
    showPixels(canvas, bytesOf(each.pixels), each.shape);
    return make('figure', {}, canvas, make('figcaption', { textContent: `${each.class}, taken for ${each.predicted} (${Math.round(100 * each.probability)} %)` }));
  }));
}

function takeNews(news) {
  training.points.splice(news.from, Infinity, ...news.points);
  training.epochs.push(...news.epochs);
  training.ended = news.ended;
  const last = training.points.at(-1);
  if (last) byId('progress').textContent = `${news.ended ? 'The training has ended: ' : ''}epoch ${last.epoch} of ${last.epochs}, step ${last.step.toLocaleString('en')} of ${last.steps.toLocaleString('en')}, ${short(last.images_per_second)} images/s`;
  if (news.classes) takeClasses(news.classes);
  showFilters(news.filters);
  showMistakes(news.mistakes);
  drawCharts();
}

function followTraining() {
  byId('training').classList.remove('hidden');
  const source = new EventSource('events');
  source.addEventListener('open', () => Object.assign(training, { points: [], epochs: [] }));
  source.addEventListener('message', event => {
    const news = JSON.parse(event.data);
    takeNews(news);
    if (news.ended) source.close();
  });
  source.addEventListener('error', () => { if (!training.ended) byId('progress').textContent = 'The training does not answer; it has ended or was stopped.'; });
  addEventListener('resize', drawCharts);
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', drawCharts);
}

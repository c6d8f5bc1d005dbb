// The page of an exported network.

const network = new Network(DATA);
globalThis.numbacnn = { network };

function update() {
  const pixels = pad.pixels(), scores = network.predict(pixels);
  showPixels(byId('input'), pixels, DATA.shape);
  const best = scores.indexOf(scores.reduce((a, b) => Math.max(a, b)));
  showBars(byId('bars'), DATA.classes.map((name, i) => [name, pad.empty ? 0 : scores[i]]));
  byId('answer').textContent = pad.empty ? 'Draw something.' : `It is ${DATA.classes[best]}, with ${(100 * scores[best]).toFixed(1)} %.`;
}

document.title = byId('title').textContent = DATA.name;
const pad = makePad({ ...DATA, light: DATA.form ? DATA.form.light : DATA.light }, update, text => { byId('status').textContent = text; });
numbacnn.pad = pad;
update();

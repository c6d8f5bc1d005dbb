// A network in plain JavaScript: one function for each kind of step, on arrays (h, w, c) of float64.

const decode = text => {
  const raw = atob(text), bytes = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
  return new Float32Array(bytes.buffer);
};

const ACTIVATIONS = {
  relu: x => Math.max(x, 0),
  relu6: x => Math.min(Math.max(x, 0), 6),
  leaky_relu: (x, step) => x >= 0 ? x : step.slope * x,
  elu: (x, step) => x > 0 ? x : step.alpha * Math.expm1(x),
  tanh: x => Math.tanh(x),
  sigmoid: x => 1 / (1 + Math.exp(-x)),
  hardsigmoid: x => Math.min(Math.max(x + 3, 0), 6) / 6,
  hardswish: x => x * Math.min(Math.max(x + 3, 0), 6) / 6,
  silu: x => x / (1 + Math.exp(-x)),
};

const count = shape => shape.reduce((a, b) => a * b, 1);

function softmax(x) {
  const most = x.reduce((a, b) => Math.max(a, b)), y = x.map(value => Math.exp(value - most));
  const sum = y.reduce((a, b) => a + b);
  return y.map(value => value / sum);
}

// y[p, q, k] = Σ over r, s, c of x[p·stride + r·dilation − pad, …, c] · w[r, s, c, k] + b[k]
function conv2d(step, [x], array) {
  const [p, q, k] = step.shape, [h, w, c] = step.input, [r, s] = step.window, [sy, sx] = step.stride;
  const [dy, dx] = step.dilation, [top, left] = step.pad, weight = array(step.weight), bias = step.bias && array(step.bias);
  const each = c / step.groups, filters = k / step.groups, y = new Float64Array(p * q * k);
  for (let i = 0, out = 0; i < p; i++) {
    for (let j = 0; j < q; j++, out += k) {
      if (bias) y.set(bias, out);
      for (let a = 0; a < r; a++) {
        const row = i * sy + a * dy - top;
        if (row < 0 || row >= h) continue;
        for (let b = 0; b < s; b++) {
          const column = j * sx + b * dx - left;
          if (column < 0 || column >= w) continue;
          const from = (row * w + column) * c;
          for (let g = 0; g < step.groups; g++) {
            for (let m = 0; m < each; m++) {
              const value = x[from + g * each + m], start = ((a * s + b) * each + m) * k + g * filters;
              if (value === 0) continue;
              for (let f = 0; f < filters; f++) y[out + g * filters + f] += value * weight[start + f];
            }
          }
        }
      }
    }
  }
  return y;
}

function dense(step, [x], array) {
  const units = step.shape[0], weight = array(step.weight), y = new Float64Array(units);
  if (step.bias) y.set(array(step.bias));
  for (let i = 0; i < x.length; i++) {
    for (let k = 0; k < units; k++) y[k] += x[i] * weight[i * units + k];
  }
  return y;
}

function pool(step, [x]) {
  const [h, w, c] = step.input, [rows, columns] = step.bins, y = new Float64Array(rows.length * columns.length * c);
  const [height, width] = step.padded || [h, w];
  const extent = ([from, to], size) => step.padded ? Math.min(to, size) - from : Math.min(to, size) - Math.max(from, 0);
  rows.forEach((row, i) => columns.forEach((column, j) => {
    const divisor = extent(row, height) * extent(column, width), out = (i * columns.length + j) * c;
    for (let k = 0; k < c; k++) {
      let found = step.kind === 'max' ? -Infinity : 0;
      for (let a = Math.max(0, row[0]); a < Math.min(h, row[1]); a++) {
        for (let b = Math.max(0, column[0]); b < Math.min(w, column[1]); b++) {
          const value = x[(a * w + b) * c + k];
          found = step.kind === 'max' ? Math.max(found, value) : found + value;
        }
      }
      y[out + k] = step.kind === 'max' ? found : found / divisor;
    }
  }));
  return y;
}

const STEPS = {
  conv2d, dense, pool,
  same: (step, [x]) => x,
  softmax: (step, [x]) => {
    const c = step.shape.at(-1), y = new Float64Array(x.length);
    for (let i = 0; i < x.length; i += c) y.set(softmax(x.subarray(i, i + c)), i);
    return y;
  },
  affine: (step, [x], array) => {
    const scale = array(step.scale), shift = array(step.shift);
    return x.map((value, i) => value * scale[i % scale.length] + shift[i % scale.length]);
  },
  prelu: (step, [x], array) => {
    const weight = array(step.weight);
    return x.map((value, i) => value > 0 ? value : value * weight[i % weight.length]);
  },
  add: (step, xs) => xs.reduce((a, b) => a.map((value, i) => value + b[i])),
  multiply: (step, [a, b]) => {
    const [long, short] = a.length < b.length ? [b, a] : [a, b];
    return long.map((value, i) => value * short[i % short.length]);
  },
  concat: (step, xs) => {
    const all = step.shape.at(-1), y = new Float64Array(count(step.shape));
    let start = 0;
    xs.forEach((x, n) => {
      const c = step.channels[n];
      for (let i = 0; i < x.length / c; i++) y.set(x.subarray(i * c, i * c + c), i * all + start);
      start += c;
    });
    return y;
  },
};

class Network {
  constructor(data) {
    this.data = data;
    this.weights = decode(data.weights);
    this.array = ([start, size]) => this.weights.subarray(start, start + size);
  }

  // Probabilities of the classes for an image (h, w, c) of bytes.
  predict(pixels) {
    const { scale, shift, steps, output } = this.data;
    const values = [Float64Array.from(pixels, (value, i) => value * scale[i % scale.length] + shift[i % scale.length])];
    for (const step of steps) {
      const xs = step.inputs.map(i => values[i]), activation = ACTIVATIONS[step.op];
      values.push(activation ? xs[0].map(value => activation(value, step)) : STEPS[step.op](step, xs, this.array));
    }
    let scores = values[output];
    if (scores.length > 1) return this.data.softmax ? softmax(scores) : scores;
    const p = this.data.softmax ? ACTIVATIONS.sigmoid(scores[0]) : scores[0];
    return Float64Array.of(1 - p, p);
  }
}

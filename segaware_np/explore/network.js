// ---- the embedding network -------------------------------------------------------------------
// Images of several channels lie channel by channel, with a border of zeros that 3x3 windows read.

function blank(channels, width, height) {
  const stride = width + 2, plane = stride * (height + 2);
  return { channels, width, height, stride, plane, data: new Float32Array(channels * plane) };
}

// Computes the embedding of a picture (`colours` from 0 to 1, pixel by pixel). Yields the share done.
function* embed({ channels, mean, unit, steps }, parameters, { width, height, colours }) {
  let at = 0, work = 0, done = 0;
  const take = (count) => parameters.subarray(at, (at += count));
  for (const { cost } of costs(steps, channels, width, height)) work += cost;

  let x = blank(3, width, height);
  for (let c = 0; c < 3; c++) {
    for (let y = 0; y < height; y++) {
      const row = c * x.plane + (y + 1) * x.stride + 1;
      for (let i = 0; i < width; i++) x.data[row + i] = (255 * colours[3 * (y * width + i) + c] - mean[c]) * unit;
    }
  }
  const result = blank(channels, width, height), mixed = take(3 * channels), bias = take(channels);
  for (let e = 0; e < channels; e++) result.data.fill(bias[e], e * result.plane, (e + 1) * result.plane);
  yield* mix(result, x, mixed);

  let level = result; // what the taps of this resolution add up to: mixed first, they are resized once
  for (const { cost, filters, pool, tap } of costs(steps, channels, width, height)) {
    if (pool) {
      x = halve(x);
      if (level !== result) addResized(result, level);
      level = blank(channels, x.width, x.height);
    }
    const y = blank(filters, x.width, x.height);
    for (const share of convolve(y, x, take(9 * filters * x.channels), take(filters))) yield (done + share * cost) / work;
    x = y;
    if (tap) yield* mix(level, x, take(channels * filters), (done + cost) / work);
    done += cost;
  }
  if (level !== result) addResized(result, level);

  const values = new Float32Array(channels * width * height);
  for (let y = 0, i = 0; y < height; y++) {
    for (let u = 0; u < width; u++) {
      const from = (y + 1) * result.stride + u + 1;
      for (let e = 0; e < channels; e++) values[i++] = result.data[e * result.plane + from];
    }
  }
  return values;
}

function* costs(steps, channels, width, height) {
  let before = 3;
  for (const step of steps) {
    if (step.pool) [width, height] = [half(width), half(height)];
    yield { ...step, cost: width * height * step.filters * (9 * before + (step.tap ? channels : 0)) };
    before = step.filters;
  }
}

// y = max(0, b + 3x3 convolution of x), row by row so that what is read stays in a cache.
function* convolve(y, x, weight, bias) {
  const { stride, plane, data } = x, sums = new Float32Array(x.width);
  for (let v = 0; v < x.height; v++) {
    for (let o = 0, w = 0; o < y.channels; o++) {
      sums.fill(bias[o]);
      for (let c = 0; c < x.channels; c++, w += 9) {
        const [a, b, d, e, f, g, h, i, j] = weight.subarray(w, w + 9);
        let p = c * plane + v * stride, q = p + stride, r = q + stride;
        for (let u = 0; u < sums.length; u++, p++, q++, r++) {
          sums[u] += a * data[p] + b * data[p + 1] + d * data[p + 2] + e * data[q] + f * data[q + 1] +
            g * data[q + 2] + h * data[r] + i * data[r + 1] + j * data[r + 2];
        }
      }
      const to = o * plane + (v + 1) * stride + 1;
      for (let u = 0; u < sums.length; u++) y.data[to + u] = Math.max(sums[u], 0);
    }
    yield v / x.height;
  }
}

// Adds weight (a row for each channel of sum) times x.
function* mix(sum, x, weight, share = 0) {
  const { stride, plane, data } = x;
  for (let v = 1; v <= x.height; v++) {
    for (let e = 0, w = 0; e < sum.channels; e++) {
      const to = e * plane + v * stride;
      for (let c = 0; c < x.channels; c++, w++) {
        const from = c * plane + v * stride, factor = weight[w];
        for (let u = 1; u <= x.width; u++) sum.data[to + u] += factor * data[from + u];
      }
    }
    yield share;
  }
}

const half = (length) => Math.ceil((length - 1) / 2) + 1 - (2 * Math.ceil((length - 1) / 2) > length);

// Maximum over 3x3 windows with stride 2. Behind a rectifier the zeros of the border are no maximum.
function halve(x) {
  const y = blank(x.channels, half(x.width), half(x.height));
  for (let c = 0; c < x.channels; c++) {
    for (let v = 0; v < y.height; v++) {
      for (let u = 0; u < y.width; u++) {
        let top = 0;
        for (let i = 2 * v; i <= Math.min(2 * v + 2, x.height + 1); i++) {
          for (let j = 2 * u; j <= Math.min(2 * u + 2, x.width + 1); j++) {
            top = Math.max(top, x.data[c * x.plane + i * x.stride + j]);
          }
        }
        y.data[c * y.plane + (v + 1) * y.stride + u + 1] = top;
      }
    }
  }
  return y;
}

// Adds x, enlarged bilinearly with aligned corners.
function addResized(sum, x) {
  const sample = (i, size, length) => {
    const far = Math.max(size - 1, 1), below = Math.floor((i * (length - 1)) / far);
    return [below + 1, Math.min(below + 1, length - 1) + 1, ((i * (length - 1)) % far) / far];
  };
  const across = Array.from({ length: sum.width }, (_, i) => sample(i, sum.width, x.width));
  for (let v = 0; v < sum.height; v++) {
    const [above, under, low] = sample(v, sum.height, x.height);
    for (let c = 0; c < sum.channels; c++) {
      const to = c * sum.plane + (v + 1) * sum.stride + 1;
      const [p, q] = [above, under].map((row) => c * x.plane + row * x.stride);
      for (let u = 0; u < sum.width; u++) {
        const [left, right, near] = across[u], { data } = x;
        const top = data[p + left] + near * (data[p + right] - data[p + left]);
        const bottom = data[q + left] + near * (data[q + right] - data[q + left]);
        sum.data[to + u] += top + low * (bottom - top);
      }
    }
  }
}

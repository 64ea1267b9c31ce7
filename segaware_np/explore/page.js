"use strict";
// Decodes the picture and its embeddings, computes local masks and box filters, and draws them.
// Names follow the library: distance d, scale s, mask m, window offsets k.
// `window.explorer` holds what is shown: {state, mask(), beside()}.

const $ = (id) => document.getElementById(id);
const KERNELS = [3, 5, 7, 9, 13, 21];
const DILATIONS = [1, 2, 3, 5, 9];
const STRIP = [[3, 1], [3, 2], [3, 5], [9, 1], [5, 5], [13, 9]]; // [kernel, dilation]
const CIVIDIS = ["00224e", "1a386f", "434e6c", "61656f", "7d7c78", "9b9476", "bcae6c", "dec958", "fee838"];

// ---- data -------------------------------------------------------------------------------------

async function inflate(stream) {
  const deflated = Uint8Array.from(atob(stream), (c) => c.charCodeAt(0));
  const inflating = new Blob([deflated]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(inflating).arrayBuffer();
}

async function decode(packed) {
  const bytes = new Uint8Array(await inflate(packed.stream));
  const { width, height, components, step, basis } = packed;
  const size = width * height, low = components * size;
  const levels = new Int32Array(size), rotated = new Float32Array(components * size);
  for (let c = 0; c < components; c++) {
    for (let y = 0, i = 0; y < height; y++) {
      for (let x = 0; x < width; x++, i++) {
        const left = x ? levels[i - 1] : 0, up = y ? levels[i - width] : 0;
        const corner = x && y ? levels[i - width - 1] : 0;
        const lower = Math.min(left, up), upper = Math.max(left, up);
        const zigzag = (bytes[c * size + i] << 8) | bytes[low + c * size + i];
        levels[i] = Math.min(Math.max(left + up - corner, lower), upper) + ((zigzag >>> 1) ^ -(zigzag & 1));
        rotated[i * components + c] = step * levels[i];
      }
    }
  }
  // Rotation keeps L2 distances; L1 needs the channels themselves. Both lie pixel by pixel.
  return {
    width, height,
    L1: { values: unrotate(rotated, basis, size), channels: basis.length },
    L2: { values: rotated, channels: components },
  };
}

function unrotate(rotated, basis, size) {
  const channels = basis.length, components = basis[0].length;
  const values = new Float32Array(channels * size);
  for (let i = 0; i < size; i++) {
    for (let e = 0; e < channels; e++) {
      let sum = 0;
      for (let c = 0; c < components; c++) sum += basis[e][c] * rotated[i * components + c];
      values[i * channels + e] = sum;
    }
  }
  return values;
}

// ---- mathematics ------------------------------------------------------------------------------

function offsets(kernel, dilation) {
  const half = kernel >> 1, list = [];
  for (let i = -half; i <= half; i++) for (let j = -half; j <= half; j++) list.push([i * dilation, j * dilation]);
  return list;
}

function distance(values, channels, p, q, norm) {
  let d = 0;
  if (norm === "L1") for (let c = 0; c < channels; c++) d += Math.abs(values[p + c] - values[q + c]);
  else for (let c = 0; c < channels; c++) d += 0.5 * (values[p + c] - values[q + c]) ** 2;
  return d;
}

// Fills m[k] = exp(-s d[k]), 0 outside the picture, and returns the sum over k.
function weigh(m, x, y, { embedding, norm, scale, deltas }) {
  const { width, height } = embedding, { values, channels } = embedding[norm];
  let sum = 0;
  for (let k = 0; k < deltas.length; k++) {
    const v = y + deltas[k][0], u = x + deltas[k][1];
    const inside = v >= 0 && v < height && u >= 0 && u < width;
    m[k] = inside
      ? Math.exp(-scale * distance(values, channels, (y * width + x) * channels, (v * width + u) * channels, norm))
      : 0;
    sum += m[k];
  }
  return sum;
}

// How far the filtered colour y of pixel (x, y), its channels summed, moves with each embedding of the
// window: the lengths of dy/de. With w the normalised mask, dy/dd[k] = -s w[k] (x[k] - y).
function embeddingGradient(colours, x, y, view) {
  const { width } = view.embedding, { values, channels } = view.embedding[view.norm], { deltas } = view;
  const w = new Float64Array(deltas.length), sum = weigh(w, x, y, view), p = (y * width + x) * channels;
  const at = (k) => (y + deltas[k][0]) * width + x + deltas[k][1];
  const inside = [...w.keys()].filter((k) => w[k] > 0);
  const bright = (q) => colours[3 * q] + colours[3 * q + 1] + colours[3 * q + 2];
  let mean = 0;
  for (const k of inside) mean += ((w[k] /= sum) * bright(at(k)));
  const lengths = w.map(() => 0), own = new Float64Array(channels);
  for (const k of inside) {
    const q = at(k) * channels, pull = view.scale * w[k] * (bright(at(k)) - mean);
    let square = 0;
    for (let c = 0; c < channels; c++) {
      const difference = values[p + c] - values[q + c];
      const g = pull * (view.norm === "L1" ? Math.sign(difference) : difference);
      own[c] -= g; // the pixel's own embedding is part of every distance
      square += g * g;
    }
    lengths[k] = Math.sqrt(square);
  }
  lengths[deltas.length >> 1] = Math.hypot(...own);
  return Array.from(lengths);
}

// Writes both filtered pictures, coarse first; yields after every row of pixels.
function* filter(colours, view, plain, aware) {
  const { width, height } = view.embedding, { deltas } = view;
  const m = new Float64Array(deltas.length), sums = new Float64Array(6);
  let done = 0;
  for (const block of [16, 4, 1]) {
    for (let y = 0; y < height; y += block) {
      for (let x = 0; x < width; x += block) {
        if (block < 16 && x % (4 * block) === 0 && y % (4 * block) === 0) continue;
        const total = weigh(m, x, y, view);
        let inside = 0;
        sums.fill(0);
        for (let k = 0; k < deltas.length; k++) {
          const v = y + deltas[k][0], u = x + deltas[k][1];
          if (v < 0 || v >= height || u < 0 || u >= width) continue;
          const q = 3 * (v * width + u);
          inside++;
          for (let c = 0; c < 3; c++) {
            sums[c] += colours[q + c];
            sums[c + 3] += m[k] * colours[q + c];
          }
        }
        paint(plain, x, y, block, sums, 0, 255 / inside);
        paint(aware, x, y, block, sums, 3, 255 / total);
        done++;
      }
      yield done / (width * height);
    }
  }
}

function paint({ data, width, height }, x, y, block, sums, first, factor) {
  for (let v = y; v < Math.min(y + block, height); v++) {
    for (let u = x; u < Math.min(x + block, width); u++) {
      const i = 4 * (v * width + u);
      for (let c = 0; c < 3; c++) data[i + c] = sums[first + c] * factor;
      data[i + 3] = 255;
    }
  }
}

// A first scale at which the mask is neither open nor closed: s d = 2 for the mean pair 5 pixels apart.
function firstScale(embedding, norm) {
  const { width, height } = embedding, { values, channels } = embedding[norm], apart = Math.min(5, width - 1);
  let sum = 0, count = 0;
  for (let y = 0; y < height; y += 4) {
    for (let x = 0; x + apart < width; x += 4, count++) {
      sum += distance(values, channels, (y * width + x) * channels, (y * width + x + apart) * channels, norm);
    }
  }
  return sum > 0 ? (2 * count) / sum : 1;
}

const toScale = (t) => (t > 0 ? Number((10 ** (-1 + (4 * (t - 1)) / 139)).toPrecision(3)) : 0);
const fromScale = (s) => Math.max(1, Math.min(140, Math.round(1 + (139 * (Math.log10(s) + 1)) / 4)));

// ---- drawing ----------------------------------------------------------------------------------

function colour(share) {
  const at = Math.min(Math.max(share, 0), 1) * (CIVIDIS.length - 1), i = Math.min(Math.floor(at), CIVIDIS.length - 2);
  const parts = [0, 2, 4].map((c) => {
    const [a, b] = [i, i + 1].map((n) => parseInt(CIVIDIS[n].slice(c, c + 2), 16));
    return Math.round(a + (at - i) * (b - a));
  });
  return `rgb(${parts})`;
}

const brief = (weight) => (weight < 0.005 ? "0" : weight < 1 ? weight.toFixed(2).slice(1) : weight.toPrecision(2));

// One square for each weight, around the canvas point (x, y); `zoom` canvas pixels to a picture pixel.
// Squares that are large enough say their weight.
function drawMask(context, m, deltas, x, y, zoom, side) {
  const top = Math.max(...m) || 1, legible = side >= 18 * (window.devicePixelRatio || 1);
  context.font = `${Math.min(side * 0.42, 18)}px system-ui, sans-serif`;
  context.textAlign = "center";
  context.textBaseline = "middle";
  m.forEach((weight, k) => {
    const [v, u] = [y + deltas[k][0] * zoom, x + deltas[k][1] * zoom];
    context.fillStyle = colour(weight / top);
    context.fillRect(u - side / 2, v - side / 2, side, side);
    context.fillStyle = weight > 0.55 * top ? "#000" : "#fff";
    if (legible) context.fillText(brief(weight), u, v);
  });
}

function drawFrame(context, x, y, half, name = "") {
  for (const [style, width] of [["#000a", 5], ["#fff", 2]]) {
    context.strokeStyle = style;
    context.lineWidth = width;
    context.strokeRect(x - half, y - half, 2 * half, 2 * half);
    context.font = "bold 20px system-ui, sans-serif";
    context.textAlign = "left";
    context.textBaseline = "alphabetic";
    context.lineJoin = "round";
    if (width > 2) context.strokeText(name, x + half + 5, y + 7);
  }
  context.fillStyle = "#fff";
  context.fillText(name, x + half + 5, y + 7);
}

function fit(canvas) {
  const box = canvas.getBoundingClientRect(), ratio = window.devicePixelRatio || 1;
  canvas.width = Math.round(box.width * ratio);
  canvas.height = Math.round(box.height * ratio);
  const context = canvas.getContext("2d");
  context.imageSmoothingEnabled = false;
  return context;
}

// Runs a generator in slices, so that the page stays alive; returns what the generator returns.
async function patiently(steps, tell) {
  for (;;) {
    const until = performance.now() + 40;
    let step = steps.next();
    while (!step.done && performance.now() < until) step = steps.next();
    if (step.done) return step.value;
    tell(step.value);
    await new Promise((resume) => setTimeout(resume));
  }
}

// ---- the page ---------------------------------------------------------------------------------

async function main() {
  const data = JSON.parse($("data").textContent);
  const wanted = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
  const embeddings = { rgb: await decode(data.rgb) };
  if (data.learned && !data.learned.steps) embeddings.learned = await decode(data.learned);
  const { width, height } = embeddings.rgb, colours = embeddings.rgb.L1.values;
  const form = $("controls"), control = form.elements;
  const state = { x: width >> 1, y: height >> 1, source: "rgb", norm: "L1", kind: "exponential",
    kernel: 9, dilation: 1, scale: 0, beside: "result", x2: width >> 2, y2: height >> 1 };
  const scales = {}; // the scale last used for each embedding and distance

  const view = (kernel = state.kernel, dilation = state.dilation) => ({
    embedding: embeddings[state.source], norm: state.norm, scale: state.scale,
    deltas: offsets(kernel, dilation),
  });
  const mask = (v = view(), { x, y } = state) => {
    const m = new Float64Array(v.deltas.length), sum = weigh(m, x, y, v);
    return Array.from(m, (weight) => (state.kind === "normalized" ? weight / sum : weight));
  };
  const second = () => ({ x: state.x2, y: state.y2 });
  // The weights beside the mask, where these are no result: one for each neighbour.
  const beside = (v = view()) => {
    if (state.beside === "second") return mask(v, second());
    if (state.beside === "embedding") return embeddingGradient(colours, state.x, state.y, v);
    const m = new Float64Array(v.deltas.length), sum = weigh(m, state.x, state.y, v);
    return Array.from(m, (weight) => weight / sum);
  };
  window.explorer = { state, mask: () => mask(), beside: () => beside() };

  // -- pictures
  const canvases = ["picture", "plain", "aware"].map($);
  const images = canvases.map((canvas) => {
    Object.assign(canvas, { width, height });
    return new ImageData(width, height);
  });
  document.documentElement.style.setProperty("--aspect", width / height);
  for (let i = 0; i < width * height; i++) paint(images[0], i % width, (i / width) | 0, 1, colours, 3 * i, 255);
  const show = () => canvases.forEach((canvas, i) => canvas.getContext("2d").putImageData(images[i], 0, 0));

  const radius = () => Math.max(6, state.dilation * (state.kernel >> 1) + 1);

  function lens(canvas, picture, { x, y }, m, deltas) {
    const context = fit(canvas), size = 2 * radius() + 1, zoom = canvas.width / size, middle = canvas.width / 2;
    context.drawImage(picture, x - radius(), y - radius(), size, size, 0, 0, canvas.width, canvas.width);
    const side = state.dilation > 1 ? 0.66 * state.dilation : 0.86;
    if (m) drawMask(context, m, deltas, middle, middle, zoom, zoom * side);
    drawFrame(context, middle, middle, (zoom * (m ? Math.max(1, side) : 1)) / 2);
  }

  function lenses() {
    const v = view(), at = state.beside === "second" ? second() : state;
    lens($("lens-mask"), canvases[0], state, mask(v), v.deltas);
    if (state.beside === "result") lens($("lens-beside"), canvases[2], state);
    else lens($("lens-beside"), canvases[0], at, beside(v), v.deltas);
  }

  const NAMES = { second: "m of B", picture: "∂y/∂x", embedding: "|∂y/∂e|" };
  const SAYS = {
    result: () => "The masked filter, around the pixel",
    second: () => `B looks at ${share(mask(view(), second()))}`,
    picture: () => "Output y of the pixel: the weight of each input x",
    embedding: () => "Output y of the pixel: how it moves with each e",
  };
  // What a lens says: of the neighbour under the pointer, if there is one, else of all.
  function captions(pointed) {
    const v = view();
    $("pointed-mask").textContent = "Point at a neighbour to read its weight";
    $("pointed-beside").textContent = SAYS[state.beside]();
    if (pointed === undefined) return;
    const [dy, dx] = v.deltas[pointed], where = `k = (${dy}, ${dx}): `;
    $("pointed-mask").textContent = `${where}m = ${mask(v)[pointed].toPrecision(3)}`;
    if (state.beside in NAMES) {
      $("pointed-beside").textContent = `${where}${NAMES[state.beside]} = ${beside(v)[pointed].toPrecision(3)}`;
    }
  }

  // Of how many neighbours a mask of equal weights would have to be made: (sum m)^2 / sum m^2.
  function share(m) {
    const sum = m.reduce((a, b) => a + b), square = m.reduce((a, b) => a + b * b, 0);
    return `${((sum * sum) / square).toFixed(1)} of ${m.length} neighbours`;
  }

  function point() {
    const v = view(), m = mask(v), context = fit($("overlay")), zoom = $("overlay").width / width;
    const { dilation } = state, comparing = state.beside === "second";
    const pixels = comparing ? [["B", second(), beside(v)], ["A", state, m]] : [["", state, m]];
    for (const [name, at, weights] of pixels) {
      const x = (at.x + 0.5) * zoom, y = (at.y + 0.5) * zoom;
      drawMask(context, weights, v.deltas, x, y, zoom, zoom * (dilation > 1 ? Math.max(1.5, 0.66 * dilation) : 1));
      drawFrame(context, x, y, Math.max(8, zoom * (dilation * (state.kernel >> 1) + 1 + dilation / 2)), name);
    }
    $("readout").textContent = comparing ? between(v) : `Pixel (${state.x}, ${state.y}) looks at ${share(m)}`;
    $("top").textContent = Number(Math.max(...m).toPrecision(2));
    for (const button of $("strip").children) {
      const [kernel, d] = [+button.dataset.kernel, +button.dataset.dilation], canvas = button.firstChild;
      button.setAttribute("aria-pressed", kernel === state.kernel && d === dilation);
      Object.assign(canvas, { width: 8 * kernel, height: 8 * kernel });
      drawMask(canvas.getContext("2d"), mask(view(kernel, d)), offsets(kernel, 1), 4 * kernel, 4 * kernel, 8, 8);
    }
    captions();
    lenses();
  }

  function between(v) {
    const { values, channels } = v.embedding[v.norm], [p, q] = [state, second()].map(({ x, y }) => (y * width + x) * channels);
    const d = distance(values, channels, p, q, v.norm);
    return `A (${state.x}, ${state.y}) and B (${state.x2}, ${state.y2}): ` +
      `d = ${d.toPrecision(3)}, exp(−s d) = ${Math.exp(-v.scale * d).toPrecision(2)}`;
  }

  let running = 0; // number of the newest filter run: older ones stop
  function refilter() {
    const run = ++running, steps = filter(colours, view(), images[1], images[2]), bar = $("progress");
    bar.classList.remove("done");
    function slice() {
      if (run !== running) return;
      const until = performance.now() + 14;
      let step = steps.next();
      while (!step.done && performance.now() < until) step = steps.next();
      bar.value = step.done ? 1 : step.value;
      bar.classList.toggle("done", step.done);
      show();
      lenses();
      if (!step.done) requestAnimationFrame(slice);
    }
    requestAnimationFrame(slice);
  }

  // -- state: controls, address and picture say the same
  function remember() {
    history.replaceState(null, "", `#${new URLSearchParams(state)}`);
  }
  function controls() {
    for (const name of ["source", "norm", "kind", "kernel", "dilation", "beside"]) control[name].value = state[name];
    control.scale.value = state.scale > 0 ? fromScale(state.scale) : 0;
    $("scale-value").textContent = state.scale;
    $("swap").hidden = state.beside !== "second";
    control.scale.setAttribute("aria-valuetext", `s = ${state.scale}`);
    const d = state.norm === "L1" ? "‖e<sub>p</sub> − e<sub>p+k</sub>‖<sub>1</sub>"
      : "½ ‖e<sub>p</sub> − e<sub>p+k</sub>‖<sup>2</sup>";
    $("formula").innerHTML = `<span>m<sub>k</sub> = exp(−s d<sub>k</sub>)` +
      `${state.kind === "normalized" ? " / Σ<sub>j</sub> exp(−s d<sub>j</sub>)" : ""}</span> <span>d<sub>k</sub> = ${d}</span>`;
  }
  function change(changes) {
    Object.assign(state, changes);
    if ("source" in changes || "norm" in changes) {
      const key = state.source + state.norm;
      state.scale = scales[key] ??= toScale(fromScale(firstScale(embeddings[state.source], state.norm)));
    }
    scales[state.source + state.norm] = state.scale;
    controls();
    point();
    if (!("beside" in changes)) refilter();
    remember();
  }
  function move(x, y, [across, down] = ["x", "y"]) {
    state[across] = Math.min(Math.max(x, 0), width - 1);
    state[down] = Math.min(Math.max(y, 0), height - 1);
    point();
  }

  for (const n of KERNELS) control.kernel.add(new Option(`${n} × ${n}`, n));
  for (const n of DILATIONS) control.dilation.add(new Option(n, n));
  const learned = control.source[1], label = learned.nextElementSibling;
  learned.disabled = !embeddings.learned;
  if (!data.learned) learned.parentNode.title = "Made with --embedding or --array";
  for (const [kernel, dilation] of STRIP) {
    const button = document.createElement("button");
    button.type = "button";
    Object.assign(button.dataset, { kernel, dilation });
    button.append(document.createElement("canvas"), `${kernel} × ${kernel}, ${dilation}`);
    button.title = `Window ${kernel} × ${kernel}, dilation ${dilation}`;
    button.onclick = () => change({ kernel, dilation });
    $("strip").append(button);
  }
  $("ramp").style.background = `linear-gradient(90deg, ${CIVIDIS.map((c) => `#${c}`)})`;
  let touched = false; // by the reader: the view is theirs from then on
  form.oninput = form.onchange = ({ target: { name, value } }) => {
    touched = true;
    change({ [name]: name === "scale" ? toScale(+value) : isNaN(value) ? value : +value });
  };
  form.onsubmit = () => false;

  const pick = (event) => {
    delete wanted.source; // whoever picks a pixel has left the view that the link names
    const box = event.currentTarget.getBoundingClientRect();
    const x = Math.floor(((event.clientX - box.left) / box.width) * width);
    const y = Math.floor(((event.clientY - box.top) / box.height) * height);
    if (!event.shiftKey) return move(x, y);
    if (state.beside !== "second") change({ beside: "second" });
    move(x, y, ["x2", "y2"]);
  };
  for (const target of [$("frame"), canvases[1], canvases[2]]) {
    target.addEventListener("pointerdown", (event) => { pick(event); remember(); });
    target.addEventListener("pointermove", (event) => { if (event.buttons) pick(event); });
    target.addEventListener("pointerup", remember);
  }
  $("frame").addEventListener("keydown", (event) => {
    const far = event.shiftKey ? 10 : 1, t = +control.scale.value;
    const act = {
      ArrowLeft: () => move(state.x - far, state.y), ArrowRight: () => move(state.x + far, state.y),
      ArrowUp: () => move(state.x, state.y - far), ArrowDown: () => move(state.x, state.y + far),
      "+": () => change({ scale: toScale(Math.min(t + 2, 140)) }),
      "-": () => change({ scale: toScale(Math.max(t - 2, 0)) }),
    }[event.key];
    if (!act) return;
    event.preventDefault();
    delete wanted.source;
    act();
    remember();
  });
  $("swap").onclick = () => {
    [state.x, state.x2, state.y, state.y2] = [state.x2, state.x, state.y2, state.y];
    point();
    remember();
  };
  for (const canvas of [$("lens-mask"), $("lens-beside")]) {
    canvas.addEventListener("pointermove", ({ offsetX, offsetY }) => {
      const size = 2 * radius() + 1, { dilation, kernel } = state;
      const [j, i] = [offsetX, offsetY].map((at) =>
        Math.round(((at / canvas.clientWidth) * size - size / 2) / dilation) + (kernel >> 1));
      captions(Math.min(i, j) >= 0 && Math.max(i, j) < kernel ? i * kernel + j : undefined);
    });
    canvas.addEventListener("pointerleave", () => captions());
  }
  new ResizeObserver(point).observe($("frame"));

  // -- the first view: the one that a link names, else the learned embedding's, when it is there
  change({ source: "rgb" });
  if (data.learned?.steps) {
    const parameters = new Float32Array(await inflate(data.learned.stream));
    const values = await patiently(embed(data.learned, parameters, { width, height, colours }), (share) => {
      label.textContent = `Learned: ${Math.round(100 * share)} %`;
    });
    const both = { values, channels: data.learned.channels };
    embeddings.learned = { width, height, L1: both, L2: both };
    label.textContent = "Learned";
    learned.disabled = false;
  }
  for (const name of ["x", "y", "kernel", "dilation", "scale", "x2", "y2"]) if (name in wanted) wanted[name] = +wanted[name];
  if (!touched && wanted.source in embeddings && Object.values(wanted).every((value) => value === value)) {
    const { source, norm, x, y, x2 = state.x2, y2 = state.y2, ...rest } = wanted;
    change({ source, norm });
    change(rest);
    move(x2, y2, ["x2", "y2"]);
    move(x, y);
    remember();
  } else if (!touched && embeddings.learned) change({ source: "learned" });
  document.documentElement.dataset.ready = "true";
}

main().catch((error) => {
  document.body.prepend(Object.assign(document.createElement("p"), {
    textContent: `This page needs a browser from 2023 or later (${error.message}).`,
  }));
});

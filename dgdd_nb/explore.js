// The explorer of dgdd_nb (notebook 60_explore): one script for a notebook, where anywidget calls `render`, and for a page
// without a kernel. No library, no request. Python sends gradients and images; the Fourier transform, equations (7) to (11)
// and all pictures are made here. Read from the bottom up: `render` puts controls before one of the five VIEWS.

const CSS = `
.dgdd { --page: #ffffff; --card: #f6f7f9; --text: #1a1d21; --quiet: #555c66; --line: #d5d9df; --focus: #0b57d0; --track: #cfd4db;
  color-scheme: light; container-type: inline-size; box-sizing: border-box; max-width: 1060px; padding: 10px; color: var(--text);
  background: var(--page); font: 15px/1.45 system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
  &.dark { --page: #14181d; --card: #1e242b; --text: #eceff3; --quiet: #aab2bd; --line: #3a434e; --focus: #8ab4ff; --track: #4a545f;
    color-scheme: dark; }
  & * { box-sizing: border-box; }
  & h2 { font-size: 1.2rem; line-height: 1.25; margin: 0 0 4px; color: inherit; }
  & h3 { font-size: .92rem; line-height: 1.3; margin: 0; overflow-wrap: anywhere; color: inherit; }
  & p { margin: 0 0 8px; max-width: 78ch; }
  & .quiet, & small, & figcaption { color: var(--quiet); font-size: .82rem; line-height: 1.3; }
  & .error { background: #fdecea; color: #7a0010; padding: 4px 8px; border-radius: 6px; }
  & .number { font-variant-numeric: tabular-nums; white-space: nowrap; }
  & .grid { display: grid; grid-template-columns: repeat(4, minmax(0, 1fr)); gap: 10px; margin-top: 10px; }
  & .card, & form { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 8px 10px; min-width: 0; }
  & .card { border-top: 4px solid var(--role, var(--line)); }
  & .wide { grid-column: span 2; }
  & .whole { grid-column: 1 / -1; }
  & .own { outline: 2px solid var(--text); outline-offset: 1px; }
  & .maps { display: grid; grid-template-columns: repeat(auto-fit, minmax(46px, 1fr)); gap: 8px; margin: 6px 0; }
  & figure { margin: 0; min-width: 0; }
  & .maps figure:only-child { max-width: 150px; }
  & canvas { display: block; width: 100%; image-rendering: pixelated; border-radius: 3px; }
  & canvas.scale { height: 10px; }
  & svg { display: block; width: 100%; max-width: 440px; height: auto; margin: auto; font-size: 12px; fill: currentColor;
    background: #ffffff; color: #1a1d21; border-radius: 6px; }
  & .mark { background: #fff; border: 1px solid var(--line); border-radius: 4px; padding: 0 4px; }
  & form { display: grid; gap: 10px; margin: 10px 0; }
  & .lists { display: grid; grid-template-columns: repeat(auto-fill, minmax(136px, 1fr)); gap: 8px 12px; }
  & .sliders { display: grid; grid-template-columns: repeat(auto-fit, minmax(210px, 1fr)); gap: 4px 16px; }
  & label { font-size: .88rem; font-weight: 600; min-width: 0; }
  & label span { display: flex; justify-content: space-between; gap: 8px; }
  & select, & button { font: inherit; font-size: .9rem; font-weight: 400; color: var(--text); background: var(--page); min-height: 34px;
    border: 1px solid var(--quiet); border-radius: 6px; padding: 3px 8px; }
  & select, & input { width: 100%; margin: 2px 0 0; }
  & input { appearance: none; height: 28px; background: none; cursor: pointer; }
  & input::-webkit-slider-runnable-track { height: 6px; border-radius: 3px; background: var(--track); }
  & input::-moz-range-track { height: 6px; border-radius: 3px; background: var(--track); }
  & input::-webkit-slider-thumb { appearance: none; width: 20px; height: 20px; margin-top: -7px; border-radius: 50%;
    background: var(--role); border: 2px solid var(--text); }
  & input::-moz-range-thumb { width: 16px; height: 16px; border-radius: 50%; background: var(--role); border: 2px solid var(--text); }
  & button { cursor: pointer; }
  & button:hover { border-color: var(--text); }
  & :focus-visible { outline: 3px solid var(--focus); outline-offset: 2px; }
  & .buttons { display: flex; flex-wrap: wrap; gap: 8px; }
  & .bars { display: grid; grid-template-columns: max-content 1fr max-content; gap: 5px 8px; align-items: center; margin: 6px 0; }
  & .bars b { height: 12px; background: var(--track); border-radius: 3px; overflow: hidden; }
  & .bars i { display: block; height: 100%; background: var(--role); }
  & .ends { display: flex; justify-content: space-between; position: relative; font-size: .76rem; color: var(--quiet); }
  & summary { cursor: pointer; font-size: .88rem; }
  & .drag { cursor: grab; touch-action: none; }
  & .beside { display: none; }
  & [hidden] { display: none; }
  @container (max-width: 699px) { .grid { grid-template-columns: repeat(2, minmax(0, 1fr)); } }
  @container (max-width: 479px) {
    .grid { grid-template-columns: minmax(0, 1fr); }
    .wide { grid-column: auto; }
    .beside:not(:empty) { display: grid; gap: 6px; }
    .turns:has(.beside:not(:empty)) { display: grid; grid-template-columns: 92px minmax(0, 1fr); gap: 12px; align-items: center; }
    .sliders { grid-template-columns: minmax(0, 1fr); }
  }
}`;

// ---- 1. Elements: every text is set as text, so no name of a class or domain can become a tag -------------------
function make(tag, parent, text = '', settings = {}) {
  const node = parent.appendChild(document.createElement(tag));
  node.textContent = text;
  return Object.assign(node, settings);
}
function card(parent, title, role, className = 'card') { // role: a colour
  const node = make('div', parent, '', { className });
  if (title) make('h3', node, title);
  if (role) node.style.setProperty('--role', role);
  return node;
}
function map(parent, caption) { // a picture of pixels with a caption below
  const figure = make('figure', parent), canvas = make('canvas', figure);
  canvas.setAttribute('role', 'img');
  canvas.caption = make('figcaption', figure, caption);
  return canvas;
}
function maps(parent, ...captions) {
  const box = make('div', parent, '', { className: 'maps' });
  return captions.map((caption) => map(box, caption));
}
function draw(tag, parent, attributes, text = '') { // one element of a drawing
  const node = parent.appendChild(document.createElementNS('http://www.w3.org/2000/svg', tag));
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.textContent = text;
  return node;
}
const drawing = (parent, width, height) => draw('svg', parent, { viewBox: `0 0 ${width} ${height}`, role: 'img' });
const say = (node, text) => node.setAttribute('aria-label', text);
const short = (x) => (x === 0 ? '0' : Math.abs(x) < 1e-3 || Math.abs(x) >= 1e4 ? x.toExponential(1) : x.toPrecision(2));

// ---- 2. What Python sends: bytes in a notebook, base64 on a page ------------------------------------------------
function numbers(value, Type = Float32Array) {
  const bytes = typeof value === 'string' ? Uint8Array.from(atob(value), (letter) => letter.charCodeAt(0))
    : new Uint8Array(value.buffer, value.byteOffset, value.byteLength);
  return new Type(bytes.slice().buffer);
}
const rows = (all, n) => Array.from({ length: n }, (_, k) => all.subarray((k * all.length) / n, ((k + 1) * all.length) / n));

// ---- 3. The Fourier transform, for sides of any length -----------------------------------------------------------
const waves = new Map();
function wave(n) { // cosines and sines of whole turns in n steps, once for each n
  if (!waves.has(n)) waves.set(n, [Math.cos, Math.sin].map((f) => Float64Array.from({ length: n }, (_, k) => f((2 * Math.PI * k) / n))));
  return waves.get(n);
}
function fft(a, b, sign) { // of a + ib
  const n = a.length, half = n / 2, [cos, sin] = wave(n), p = new Float64Array(n), q = new Float64Array(n);
  if (n % 2 || n <= 8) {
    for (let k = 0; k < n; k++) for (let j = 0; j < n; j++) {
      const turn = (j * k) % n, c = cos[turn], s = sign * sin[turn];
      p[k] += c * a[j] - s * b[j];
      q[k] += s * a[j] + c * b[j];
    }
    return [p, q];
  }
  const every = (x, first) => { const y = new Float64Array(half); for (let j = 0; j < half; j++) y[j] = x[2 * j + first]; return y; };
  const [ea, eb] = fft(every(a, 0), every(b, 0), sign), [oa, ob] = fft(every(a, 1), every(b, 1), sign);
  for (let k = 0; k < half; k++) {
    const c = cos[k], s = sign * sin[k], x = c * oa[k] - s * ob[k], y = s * oa[k] + c * ob[k];
    p[k] = ea[k] + x; q[k] = eb[k] + y;
    p[k + half] = ea[k] - x; q[k + half] = eb[k] - y;
  }
  return [p, q];
}
function transform({ re, im }, [H, W], sign) { // every channel, along the rows, then along the columns
  const p = Float64Array.from(re), q = Float64Array.from(im);
  const line = (start, n, step) => {
    let a = new Float64Array(n), b = new Float64Array(n);
    for (let j = 0; j < n; j++) { a[j] = p[start + j * step]; b[j] = q[start + j * step]; }
    [a, b] = fft(a, b, sign);
    for (let j = 0; j < n; j++) { p[start + j * step] = a[j]; q[start + j * step] = b[j]; }
  };
  for (let start = 0; start < p.length; start += W) line(start, W, 1);
  for (let c = 0; c < p.length; c += H * W) for (let x = 0; x < W; x++) line(c + x, H, W);
  return { re: p, im: q };
}
const spectrum = (g, size) => transform({ re: g, im: new Float64Array(g.length) }, size, -1); // (7)
const inverse = (G, size) => transform(G, size, 1).re.map((x) => x / (size[0] * size[1]));
const modulus = ({ re, im }) => re.map((x, i) => Math.hypot(x, im[i]));
const times = ({ re, im }, R) => ({ re: re.map((x, i) => x * R[i]), im: im.map((x, i) => x * R[i]) });
const sum = (arrays) => arrays[0].map((_, i) => arrays.reduce((total, a) => total + a[i], 0));
const dot = (a, b) => a.reduce((total, x, i) => total + x * b[i], 0);
const length = (a) => Math.sqrt(dot(a, a));
const mean = (a) => a.reduce((total, x) => total + x, 0) / a.length;

// ---- 4. The method: equations (8) to (11) ------------------------------------------------------------------------
class Scene { // one class, one synthetic image, one encoder
  constructor(sent, data) {
    Object.assign(this, sent, { size: data.size, known: new Map() });
    const K = data.domains.length;
    this.image = numbers(sent.image);
    this.g_domain = rows(numbers(sent.g_domain), K);
    this.g_dm = rows(numbers(sent.g_dm), K - 1); // under the first 2, 3, ... K domains
    this.real = numbers(sent.real, Uint8Array);
    this.order = numbers(data.order, Int32Array);
    this.G = this.g_domain.map((g) => spectrum(g, this.size));
  }
  shuffled(R) { // the same values at other frequencies; `order` is given for the half spectrum
    const [H, W] = this.size, half = (W >> 1) + 1;
    return R.map((_, i) => {
      const c = Math.floor(i / (H * W)), u = Math.floor(i / W) % H, v = i % W;
      const from = this.order[c * H * half + (v < half ? u * half + v : ((H - u) % H) * half + W - v)]; // R(-w) = R(w)
      return R[c * H * W + Math.floor(from / half) * W + (from % half)];
    });
  }
  parts(K, reading = 'a', agreement = 'spectral') { // once each, then remembered
    const key = `${K} ${reading} ${agreement}`;
    if (!this.known.has(key)) this.known.set(key, this.compute(K, reading, agreement));
    return this.known.get(key);
  }
  compute(K, reading, agreement) {
    const G = this.G.slice(0, K), total = { re: sum(G.map((g) => g.re)), im: sum(G.map((g) => g.im)) };
    const way = sum(G.map(modulus)), consensus = times(total, total.re.map(() => 1 / K)); // (8)
    let R = modulus(total).map((x, i) => x / (way[i] + 1e-8)); // (9)
    if (agreement === 'shuffled') R = this.shuffled(R);
    if (agreement === 'constant') R = new Float64Array(R.length).fill(mean(R));
    const g_cls = inverse(times(consensus, R), this.size); // (10)
    const from = reading === 'a' ? g_cls : inverse(consensus, this.size);
    return { R, g_cls, g_dm: this.g_dm[K - 2], g_dom: this.g_domain.slice(0, K).map((g) => g_cls.map((_, i) => g[i] - from[i])) };
  }
  direction({ alpha, beta, K, reading, agreement, domain }) {
    const { g_dm, g_cls, g_dom } = this.parts(K, reading, agreement);
    return g_cls.map((x, i) => g_dm[i] + alpha * x + beta * g_dom[domain][i]); // (11)
  }
  kept(g, R, threshold) { // a gradient without the frequencies below the threshold, and its share of the energy
    const G = spectrum(g, this.size), all = modulus(G), mask = R.map((x) => (x >= threshold ? 1 : 0)), rest = times(G, mask);
    return { rest: inverse(rest, this.size), mask, share: dot(all, all.map((x, i) => x * mask[i])) / (dot(all, all) || 1) };
  }
}

// ---- 5. Colours and pictures, the same as in the figures of the notebooks ----------------------------------------
function ramp(colours) { // 1024 steps between the given stops
  const stops = colours.split(' ').map((hex) => [0, 2, 4].map((i) => parseInt(hex.slice(i, i + 2), 16)));
  const table = Array.from({ length: 1024 }, (_, i) => {
    const place = (i * (stops.length - 1)) / 1023, left = Math.min(Math.floor(place), stops.length - 2);
    return stops[left].map((x, c) => x + (place - left) * (stops[left + 1][c] - x));
  });
  return (t) => table[Math.round(1023 * Math.min(Math.max(t, 0), 1))];
}
const signed = ramp('053061 2166ac 4393c3 92c5de d1e5f0 f7f7f7 fddbc7 f4a582 d6604d b2182b 67001f');
const viridis = ramp('440154 48186a 472d7b 424086 3b528b 33638d 2c728e 26828e 21918c 1fa088 28ae80 3fbc73 5ec962 84d44b addc30 d8e219 fde725');
const magma = ramp('000004 0a0822 1d1147 36106b 51127c 6a1c81 832681 9c2e7f b73779 d0416f e75263 f56b5c fc8961 fea772 fec488 fde2a3 fcfdbf');
const grey = (t) => [255 * t, 255 * t, 255 * t];

function paint(canvas, width, height, colour) { // colour(x, y) -> [red, green, blue], or null: nothing there
  Object.assign(canvas, { width, height });
  const context = canvas.getContext('2d'), picture = context.createImageData(width, height);
  for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) {
    const rgb = colour(x, y);
    if (rgb) for (let c = 0; c < 4; c++) picture.data[4 * (y * width + x) + c] = c < 3 ? rgb[c] : 255;
  }
  context.putImageData(picture, 0, 0);
}
class Pictures { // of one scene: one scale for all its gradients, one for all its spectra
  constructor(scene, K) {
    const { size: [H, W] } = scene;
    const all = [scene.g_dm[K - 2], ...[2, K].flatMap((n) => [scene.parts(n).g_cls, ...scene.parts(n).g_dom])];
    const values = all.flatMap((g) => Array.from(this.middle(g), Math.abs)).sort((a, b) => a - b);
    Object.assign(this, { scene, H, W, seen: new WeakMap() });
    this.limit = values[Math.floor(0.995 * (values.length - 1))] || 1;
    this.top = Math.log10(Math.max(...all.map((g) => this.waves(g).reduce((most, x) => Math.max(most, x), 0))) || 1);
    this.unit = length(scene.g_dm[K - 2]) / Math.sqrt(scene.g_dm[0].length) || 1; // rms of g_dm
  }
  middle(x) { // the mean over the three channels
    const n = x.length / 3;
    return Float64Array.from({ length: n }, (_, i) => (x[i] + x[i + n] + x[i + 2 * n]) / 3);
  }
  waves(g) { // once for each gradient: at a move only the direction is new
    if (!this.seen.has(g)) this.seen.set(g, this.middle(modulus(spectrum(g, this.scene.size))));
    return this.seen.get(g);
  }
  gradient(canvas, g, name) {
    const x = this.middle(g), { W } = this, far = x.reduce((best, v, i) => (Math.abs(v) > Math.abs(x[best]) ? i : best), 0);
    paint(canvas, W, this.H, (column, y) => signed(0.5 + x[y * W + column] / (2 * this.limit)));
    say(canvas, `${name}: ${(length(g) / (this.unit * Math.sqrt(g.length))).toFixed(2)} times as long as g_dm, largest value ${short(x[far] / this.unit)} at row ${Math.floor(far / W)}, column ${far % W}.`);
  }
  frequencies(canvas, x, colour, text) { // values per frequency, zero in the middle
    const { H, W } = this, place = (column, y) => ((y + H - (H >> 1)) % H) * W + ((column + W - (W >> 1)) % W);
    paint(canvas, W, H, (column, y) => colour(x[place(column, y)]));
    say(canvas, text);
  }
  spectrum(canvas, g, name) { // three decades
    const x = this.waves(g), { H, W } = this, near = (i, n) => Math.min(i, n - i);
    const low = x.reduce((total, v, i) => total + (Math.hypot(near(Math.floor(i / W), H), near(i % W, W)) <= 2.5 ? v * v : 0), 0);
    this.frequencies(canvas, x, (v) => viridis((Math.log10(v + 1e-30) - this.top) / 3 + 1),
      `Spectrum of ${name}: ${Math.round((100 * low) / (dot(x, x) || 1))} % of its energy in waves of at most 2.5 cycles per image.`);
  }
  both(canvases, g, name) {
    if (canvases.shown === g) return; // painted already
    canvases.shown = g;
    this.gradient(canvases[0], g, name);
    this.spectrum(canvases[1], g, name);
  }
  agreement(canvas, R, name = 'R') {
    const x = this.middle(R);
    this.frequencies(canvas, x, magma, `${name} from ${short(Math.min(...x))} to ${short(Math.max(...x))}, mean ${mean(x).toFixed(2)}, at zero frequency ${short(x[0])}.`);
  }
  image(canvas, x, text) { // normalised values back to pixels, clipped
    const { H, W, scene: { std, mean: middle } } = this;
    paint(canvas, W, H, (column, y) => [0, 1, 2].map((c) => Math.round(255 * (x[(c * H + y) * W + column] * std[c] + middle[c]))));
    say(canvas, text);
  }
}
function sheet(canvas, pictures, [H, W], columns, text) { // pictures of bytes side by side, row by row
  const n = pictures.length / (3 * H * W), down = Math.ceil(n / columns);
  paint(canvas, columns * (W + 1) - 1, down * (H + 1) - 1, (x, y) => {
    const number = Math.floor(y / (H + 1)) * columns + Math.floor(x / (W + 1)), row = y % (H + 1), column = x % (W + 1);
    return row === H || column === W || number >= n ? null : [0, 1, 2].map((c) => pictures[((number * 3 + c) * H + row) * W + column]);
  });
  canvas.style.maxWidth = `${4 * canvas.width}px`;
  say(canvas, text);
}
function chart(parent, title, lines, ends, label) { // returns a function that moves the cursor
  const svg = drawing(parent, 420, 230), [x0, x1, y0, y1] = ends, at = (x, y) => [46 + (360 * (x - x0)) / (x1 - x0 || 1), 190 - (160 * (y - y0)) / (y1 - y0 || 1)];
  draw('text', svg, { x: 46, y: 14 }, title);
  draw('text', svg, { x: 406, y: 224, 'text-anchor': 'end' }, label);
  draw('path', svg, { d: 'M46,30V190H406', fill: 'none', stroke: 'currentColor' });
  for (const [x, y, text, anchor] of [[46, 206, x0, 'middle'], [406, 206, x1, 'end'], [42, 194, y0, 'end'], [42, 34, y1, 'end']]) draw('text', svg, { x, y, 'text-anchor': anchor }, Number(text.toPrecision(3)));
  lines.forEach(({ name, colour, dash, points }, i) => {
    draw('path', svg, { d: `M${points.map(([x, y]) => at(x, y).join()).join('L')}`, fill: 'none', stroke: colour, 'stroke-width': 2, 'stroke-dasharray': dash });
    draw('text', svg, { x: 406, y: 44 + 15 * i, 'text-anchor': 'end', 'font-weight': 600 }, name);
    draw('path', svg, { d: `M${392 - 6.6 * name.length},${40 + 15 * i}h-22`, stroke: colour, 'stroke-width': 3, 'stroke-dasharray': dash });
  });
  const cursor = draw('path', svg, { stroke: 'currentColor', 'stroke-width': 1.5 });
  return (x, text) => { cursor.setAttribute('d', `M${at(x, y0)[0]},30V190`); say(svg, `${title}: ${text}`); };
}

// ---- 6. Five views: each makes its controls and parts once and returns what follows from the state ---------------
function gallery(desk) { // the lists of classes and images, and the scene they name
  const { data } = desk, known = () => [...desk.scenes.values()];
  const label = desk.list('label', 'class'), image = desk.list('image', 'synthetic image');
  desk.follow = () => {
    const { state } = desk, classes = data.live ? data.classes.map((_, c) => c) : [...new Set(known().map((s) => s.label))];
    if (!classes.includes(state.label)) [state.label] = classes; // a saved page holds the first scenes alone
    label(classes.map((c) => [c, data.classes[c]]));
    const images = data.live ? Array.from({ length: data.images[state.label] }, (_, i) => i) : known().filter((s) => s.label === state.label).map((s) => s.number);
    if (!images.includes(state.image)) [state.image] = images;
    image(images.map((i) => [i, `number ${i}`]));
  };
  const pictures = new Map();
  return () => {
    const key = `${desk.state.label} ${desk.state.image}`, scene = desk.scenes.get(key);
    if (scene && !pictures.has(key)) pictures.set(key, new Pictures(scene, data.domains.length));
    return pictures.get(key);
  };
}

function exploreView(desk) {
  const { data, body } = desk, { roles, domains } = data, most = domains.length, ranges = data.ranges, current = gallery(desk);
  const firsts = domains.map((_, k) => k + 1).slice(1);
  desk.list('K', 'K: domains used')(firsts.map((K) => [K, K === most ? `${K} (all)` : `${K} (the first ${K})`]));
  desk.list('reading', 'reading of (10)')([['a', 'a: g_k − g_cls'], ['b', 'b: g_k − mean']]);
  desk.list('agreement', 'R')([['spectral', 'measured'], ['constant', 'its mean everywhere'], ['shuffled', 'shuffled']]);
  const belongs = desk.list('domain', 'image belongs to'), follow = desk.follow, has = (name) => !data.controls || data.controls.includes(name);
  desk.follow = () => {
    follow();
    for (const name of ['K', 'reading', 'agreement', 'domain', 'alpha', 'beta', 'step']) desk.controls[name].hidden ||= !has(name);
    belongs([[-1, 'its own'], ...domains.slice(0, desk.state.K).map(({ name }, k) => [k, name])]);
    if (desk.state.domain >= desk.state.K) desk.state.domain = -1;
    desk.controls.domain.hidden ||= !has('domain');
  };
  desk.slider('alpha', 'alpha: class part', ...ranges.alpha, 0.05, roles.g_cls);
  desk.slider('beta', 'beta: domain part', ...ranges.beta, 0.01, roles.g_dom);
  desk.slider('step', 'step size', 0, 4, 0.1, roles.combined);
  for (const [name, alpha, beta] of data.presets) desk.button(name, () => ({ alpha, beta }));

  const first = card(body, '', '', 'grid'), sums = card(first, 'direction', roles.combined, 'card wide'), formula = sums.firstChild;
  make('p', sums, 'Lengths, g_dm = 1:', { className: 'quiet' });
  const table = make('div', sums, '', { className: 'bars' }), bars = {};
  for (const [name, role] of [['g_dm', 'g_dm'], ['alpha g_cls', 'g_cls'], ['beta g_dom', 'g_dom'], ['direction', 'combined']]) {
    const cells = [make('code', table, name), make('b', table)], bar = make('i', cells[1]);
    bar.style.setProperty('--role', roles[role]);
    cells.push(make('span', table, '', { className: 'number' }));
    if (role === 'g_dom') cells.forEach((cell) => { cell.hidden = !has('beta'); });
    bars[name] = [bar, cells[2]];
  }
  const one = (parent, title, role, text, ...captions) => {
    const box = card(parent, title, role), made = maps(box, ...captions);
    made.words = make('p', box, text, { className: 'quiet' });
    return made;
  };
  const direction = one(first, 'direction', roles.combined, 'The image moves against it: red pixels get darker, blue ones brighter.', 'pixels', 'spectrum');
  const images = one(first, 'the image', '', '', 'before', 'plain DM', 'after');
  const g_dm = one(first, 'g_dm: plain DM', roles.g_dm, 'The gradient of all domains together.', 'pixels', 'spectrum');
  const g_cls = one(first, 'g_cls: class part', roles.g_cls, 'The mean of the domains, each wave times R.', 'pixels', 'spectrum');
  const agreement = one(first, 'R: agreement', roles.null, '', 'slow waves in the middle');
  const scales = card(first, 'common scales'), ends = [['gradients (rms of g_dm = 1)', signed], ['spectra (rms of g_dm = 1)', viridis], ['R', magma]].map(([name, colour]) => {
    make('small', scales, name);
    const canvas = make('canvas', scales, '', { className: 'scale' });
    canvas.setAttribute('role', 'img');
    paint(canvas, 200, 1, (x) => colour(x / 199));
    return [canvas, make('div', scales, '', { className: 'ends' })];
  });
  make('p', scales, 'Maps are means over the three channels.', { className: 'quiet' });
  agreement[0].closest('.card').hidden = scales.hidden = !has('K');
  const near = ['direction', 'image after the step'].map((text) => map(desk.beside, text)); // on a phone the sliders have them at their side
  const cards = domains.map(({ name, colour, mark }) => {
    const box = card(first, ' ', colour), title = box.firstChild;
    make('span', title, mark, { className: 'mark', ariaHidden: 'true' }).style.color = colour;
    make('code', title, ` g_dom[${name}]`);
    return { box, tag: make('small', title), strip: map(box, 'real images'), pair: maps(box, 'pixels', 'spectrum') };
  });

  return () => {
    const pictures = current();
    if (!pictures) return null;
    const { scene: s, unit, limit, top, W, H } = pictures, now = { ...desk.state }, { K, alpha, beta } = now, own = domains[s.domain].name;
    if (now.domain < 0) now.domain = s.domain < K ? s.domain : 0;
    const parts = s.parts(K, now.reading, now.agreement), d = s.direction(now), name = domains[now.domain].name;
    pictures.both(direction, d, 'direction');
    pictures.both(g_dm, parts.g_dm, 'g_dm');
    pictures.both(g_cls, parts.g_cls, 'g_cls');
    pictures.agreement(agreement[0], parts.R);
    cards.forEach(({ box, tag, strip, pair }, k) => {
      box.hidden = k >= K || !has('beta');
      if (box.hidden) return;
      box.classList.toggle('own', k === now.domain);
      tag.textContent = k === now.domain ? ' (assigned)' : '';
      sheet(strip, rows(s.real, most)[k], s.size, s.shown, `${s.shown} real images of class ${data.classes[s.label]} from domain ${domains[k].name}.`);
      pictures.both(pair, parts.g_dom[k], `g_dom of ${domains[k].name}`);
    });
    const eta = now.step * s.lr, moved = (g) => s.image.map((x, i) => x - eta * g[i]), far = (g) => (eta * length(g)) / Math.sqrt(g.length);
    pictures.image(images[0], s.image, `Synthetic image of class ${data.classes[s.label]} before the step.`);
    pictures.image(images[1], moved(parts.g_dm), `After a plain DM step of size ${short(eta)}.`);
    pictures.image(images[2], moved(d), `After a step of size ${short(eta)} along the direction.`);
    pictures.gradient(near[0], d, 'direction, small');
    pictures.image(near[1], moved(d), 'The image after the step, small.');
    images.words.textContent = `Moved by ${far(d).toFixed(2)} standard deviations of the pixels; plain DM: ${far(parts.g_dm).toFixed(2)}.`;
    const R = mean(parts.R), noise = s.noise[K - 2], flat = unit * Math.sqrt(H * W);
    agreement.words.textContent = `Mean ${R.toFixed(2)}; noise: ${noise.toFixed(2)}. Bright: waves that lie alike in all domains.`;
    [[-limit / unit, 0, limit / unit], [10 ** (top - 3) / flat, 10 ** top / flat], [0, noise, 1]].forEach((marks, i) => {
      ends[i][1].replaceChildren();
      marks.forEach((x) => make('span', ends[i][1], short(x)));
      say(ends[i][0], `Colour scale from ${short(marks[0])} to ${short(marks[marks.length - 1])}.`);
    });
    const mark = ends[2][1].children[1];
    mark.textContent = `noise ${noise.toFixed(2)}`;
    mark.style.cssText = `position: absolute; left: ${100 * noise}%; transform: translateX(-50%)`;
    const lengths = { g_dm: length(parts.g_dm), 'alpha g_cls': Math.abs(alpha) * length(parts.g_cls), 'beta g_dom': Math.abs(beta) * length(parts.g_dom[now.domain]), direction: length(d) };
    const full = Math.max(2 * lengths.g_dm, ...Object.values(lengths)) || 1, base = lengths.g_dm || 1;
    for (const [key, [bar, value]] of Object.entries(bars)) {
      bar.style.width = `${(100 * lengths[key]) / full}%`;
      value.textContent = (lengths[key] / base).toFixed(2);
    }
    formula.textContent = `direction = g_dm + ${alpha.toFixed(2)} g_cls${has('beta') ? ` + ${beta.toFixed(2)} g_dom[${name}]` : ''}`;
    const cosine = dot(d, parts.g_dm) / (lengths.direction * base || 1), angle = (Math.acos(Math.min(1, Math.max(-1, cosine))) * 180) / Math.PI;
    let text = `The direction is ${(lengths.direction / base).toFixed(2)} times as long as g_dm and turned by ${Math.round(angle)} degrees from it (cosine ${cosine.toFixed(3)}). `;
    if (alpha === 0 && beta === 0) text = 'Plain DM: the direction is g_dm (cosine 1). ';
    else if (alpha === beta && now.reading === 'a') text += `alpha = beta: g_cls cancels, and g_dm + ${alpha.toFixed(2)} times ${name}'s own gradient is left. `;
    else if (angle < 10 && lengths.direction > 1.05 * base) text += 'Most of the change is length, which a larger step size gives as well. ';
    if (s.domain >= K && desk.state.domain < 0) text += `${own} is not among the first ${K} domains; the image is assigned to ${name} instead. `;
    desk.numbers = { ...lengths, cosine, R, noise, limit, direction: d, image: moved(d) };
    return !has('K') ? text : `${text}Mean R ${R.toFixed(2)}; noise from ${K} domains as loud as these reads ${noise.toFixed(2)}.`;
  };
}

function peelView(desk) {
  const { data, body } = desk, { roles, domains } = data, K = domains.length, current = gallery(desk);
  desk.list('domain', 'gradient of')([[-1, 'its own'], ...domains.map(({ name }, k) => [k, name]), [-2, 'mean of all domains']]);
  desk.slider('threshold', 'threshold: keep frequencies with R above', 0, 1, 0.01, roles.g_cls);
  const grid = card(body, '', '', 'grid'), before = card(grid, 'gradient', roles.g_dm, 'card wide'), whole = maps(before, 'pixels', 'its spectrum');
  const energy = card(grid, '', '', 'card wide');
  const kinds = [['R', roles.g_cls, ''], ['shuffled R', roles.null, '6 4']].map(([name, colour, dash]) => ({ name, colour, dash, maps: maps(card(grid, name, colour, 'card wide'), name, 'kept (white)', 'what remains') }));
  let drawn, cursor;
  return () => {
    const pictures = current();
    if (!pictures) return null;
    const { scene: s } = pictures, { threshold, domain } = desk.state, k = domain === -1 ? s.domain : domain, { R } = s.parts(K);
    const g = k < 0 ? sum(s.g_domain.map((x) => Float64Array.from(x, (v) => v / K))) : s.g_domain[k], name = k < 0 ? 'mean gradient' : `gradient of ${domains[k].name}`;
    const found = [R, s.parts(K, 'a', 'shuffled').R];
    before.firstChild.textContent = name;
    pictures.both(whole, g, name);
    const share = kinds.map(({ name: kind, maps: [map, mask, rest] }, i) => {
      const kept = s.kept(g, found[i], threshold);
      pictures.agreement(map, found[i], kind);
      pictures.frequencies(mask, pictures.middle(kept.mask), grey, `Frequencies with ${kind} at or above ${threshold.toFixed(2)}.`);
      pictures.gradient(rest, kept.rest, `What remains above ${kind}`);
      return kept.share;
    });
    const key = `${s.label} ${s.number} ${k}`;
    if (drawn !== key) { // the curves wait for no threshold
      energy.replaceChildren();
      const marks = Array.from({ length: 51 }, (_, i) => i / 50), power = modulus(spectrum(g, s.size)).map((x) => x * x), all = power.reduce((a, b) => a + b, 0) || 1;
      const lines = kinds.map(({ name: kind, colour, dash }, i) => ({ name: kind, colour, dash,
        points: marks.map((t) => [t, (100 * power.reduce((total, x, j) => total + (found[i][j] >= t ? x : 0), 0)) / all]) }));
      cursor = chart(energy, 'energy kept, %', lines, [0, 1, 0, 100], `threshold on R; mean R of noise: ${s.noise[K - 2].toFixed(2)}`);
      drawn = key;
    }
    const words = share.map((x) => `${Math.round(100 * x)} %`);
    cursor(threshold, `R keeps ${words[0]}, shuffled R ${words[1]}.`);
    desk.numbers = { share };
    const doubt = k < 0 ? ' Part of a gap is arithmetic here: the mean is strong where R is large.' : '';
    return `Class ${data.classes[s.label]}, ${name}, threshold ${threshold.toFixed(2)}: R keeps ${words[0]} of the energy, shuffled R ${words[1]}.${doubt}`;
  };
}

function arrowsView(desk) {
  const { data, body } = desk, { styles, noise, roles } = data, all = styles.map((_, k) => k), thrown = [];
  desk.slider('K', 'number of arrows K', 2, all.length, 1, roles.combined);
  desk.slider('guess', 'your guess: what does noise read on average?', 0, 1, 0.01, roles.null);
  const more = make('details', desk.form), rest = make('div', (make('summary', more, 'Angles and lengths by slider'), more), '', { className: 'sliders' });
  rest.style.gridTemplateColumns = 'repeat(2, minmax(0, 1fr))';
  for (const k of all) {
    desk.slider(`angle${k}`, `arrow ${k + 1}: angle`, 0, 360, 5, styles[k].colour, undefined, rest);
    desk.slider(`length${k}`, `arrow ${k + 1}: length`, 0, 1.5, 0.05, styles[k].colour, undefined, rest);
  }
  let K0 = desk.state.K;
  desk.follow = () => {
    const { state } = desk;
    if (state.K !== K0 || !state.throws) thrown.length = state.throws = 0; // another K, or Reset: another noise
    if (state.K !== K0) state.shown = 0;
    K0 = state.K;
    desk.controls.guess.hidden = state.shown === 1;
    all.forEach((k) => ['angle', 'length'].forEach((name) => { desk.controls[name + k].hidden = k >= state.K; }));
  };
  const each = (f) => Object.fromEntries(all.slice(0, desk.state.K).flatMap((k) => { const [angle, long] = f(k); return [[`angle${k}`, angle], [`length${k}`, long]]; }));
  const noisy = () => { // complex normal arrows; a common factor leaves R alone
    const drawn = all.map(() => Math.sqrt(-2 * Math.log(1 - Math.random()))), longest = Math.max(...drawn.slice(0, desk.state.K));
    return each((k) => [360 * Math.random(), (1.4 * drawn[k]) / longest]);
  };
  const arrowsOf = (state) => all.slice(0, state.K).map((k) => { const turn = (state[`angle${k}`] * Math.PI) / 180, r = state[`length${k}`]; return [r * Math.cos(turn), r * Math.sin(turn)]; });
  const resultant = (z) => Math.hypot(sum(z)[0], sum(z)[1]) / (z.reduce((way, [x, y]) => way + Math.hypot(x, y), 0) || 1); // (9)
  const toss = (times) => () => {
    let last = {};
    for (let i = 0; i < times; i++) thrown.push(resultant(arrowsOf({ ...desk.state, ...(last = noisy()) })));
    return { ...last, throws: desk.state.throws + times };
  };
  desk.button('Throw noise', toss(1));
  desk.button('Throw 100 times', toss(100));
  desk.button('Show what noise reads', () => ({ shown: 1 }));
  desk.button('All agree', () => each((k) => [desk.state.angle0, desk.state[`length${k}`]]));
  desk.button('Spread evenly', () => each((k) => [(360 * k) / desk.state.K, 1]));
  const grid = card(body, '', '', 'grid'), panel = (title) => drawing(card(grid, title, '', 'card wide'), 260, 260);
  const left = panel('one arrow per domain: drag the tips'), right = panel('head to tail, the whole way 1 long'), level = card(grid, 'R', roles.g_cls, 'card whole'), scale = drawing(level, 520, 150);
  scale.style.maxWidth = '760px';
  let held = -1;
  const unit = 84, point = ({ clientX, clientY }) => { const box = left.getBoundingClientRect(); return [((clientX - box.left) / box.width) * 260 - 130, 130 - ((clientY - box.top) / box.height) * 260].map((x) => x / unit); };
  const drag = (event) => {
    const [x, y] = point(event), long = Math.min(1.5, Math.hypot(x, y));
    desk.change({ [`angle${held}`]: ((Math.atan2(y, x) * 180) / Math.PI + 360) % 360, [`length${held}`]: long });
  };
  left.classList.add('drag');
  left.addEventListener('pointerdown', (event) => { // the nearest tip
    const [x, y] = point(event), far = arrowsOf(desk.state).map(([a, b]) => Math.hypot(a - x, b - y));
    held = far.indexOf(Math.min(...far));
    left.setPointerCapture(event.pointerId);
    drag(event);
  });
  left.addEventListener('pointermove', (event) => { if (held >= 0) drag(event); });
  for (const end of ['pointerup', 'pointercancel']) left.addEventListener(end, () => { held = -1; });
  const arrow = (svg, [x, y], [u, v], colour, width, size) => {
    const long = Math.hypot(u - x, v - y), head = Math.min(12 / size, long / 2), [a, b] = [(u - x) / long, (v - y) / long], at = (p, q) => `${130 + size * p},${130 - size * q}`;
    if (!(long > 1e-6)) return;
    draw('path', svg, { d: `M${at(x, y)}L${at(u - head * a, v - head * b)}`, stroke: colour, 'stroke-width': width });
    draw('path', svg, { d: `M${at(u, v)}L${at(u - head * a - 0.4 * head * b, v - head * b + 0.4 * head * a)}L${at(u - head * a + 0.4 * head * b, v - head * b - 0.4 * head * a)}Z`, fill: colour, stroke: colour, 'stroke-width': width / 2 });
  };
  return () => {
    const { K, shown, guess } = desk.state, z = arrowsOf(desk.state), way = z.reduce((total, [x, y]) => total + Math.hypot(x, y), 0), { low, mean: middle, high, bins } = noise[K - 2];
    let at = [0, 0];
    for (const svg of [left, right, scale]) svg.replaceChildren();
    draw('circle', left, { cx: 130, cy: 130, r: unit, fill: 'none', stroke: '#8a9099' });
    draw('circle', right, { cx: 130, cy: 130, r: 105, fill: 'none', stroke: '#8a9099' });
    const ends = z.map(([x, y]) => (at = way ? [at[0] + x / way, at[1] + y / way] : at)), R = Math.hypot(...at); // the last one has length R (9)
    arrow(right, [0, 0], at, roles.g_cls, 7, 105);
    z.forEach(([x, y], k) => {
      const { colour } = styles[k], long = Math.hypot(x, y) || 1, out = (long * unit + 12) / long;
      arrow(left, [0, 0], [x, y], colour, 3, unit);
      arrow(right, k ? ends[k - 1] : [0, 0], ends[k], colour, 3, 105);
      draw('text', left, { x: Math.min(252, Math.max(8, 130 + out * x)), y: Math.min(256, Math.max(12, 134 - out * y)), 'text-anchor': 'middle' }, k + 1);
    });
    const own = bins.map(() => 0), most = Math.max(...bins), place = (x) => 10 + 500 * x;
    thrown.forEach((x) => { own[Math.min(bins.length - 1, Math.floor(x * bins.length))] += bins.length / thrown.length; });
    const tallest = Math.max(most, thrown.length ? Math.max(...own) : 0), width = 500 / bins.length, column = (x, i, look) => draw('rect', scale, { x: 10 + i * width, y: 118 - (105 * x) / tallest, width: Math.max(0, width - 1), height: (105 * x) / tallest, ...look });
    if (shown) bins.forEach((x, i) => column(x, i, { opacity: 0.25 }));
    if (thrown.length) own.forEach((x, i) => x && column(x, i, { fill: 'none', stroke: roles.g_dm, 'stroke-width': 1.5 }));
    draw('path', scale, { d: 'M10,118H510', stroke: 'currentColor' });
    for (const x of [0, 0.5, 1]) draw('text', scale, { x: place(x), y: 134, 'text-anchor': 'middle' }, x);
    draw('text', scale, { x: 260, y: 148, 'text-anchor': 'middle' }, shown ? 'R of noise (grey), of your throws (outlined), of these arrows (thick)' : 'R of your throws (outlined), of these arrows (thick)');
    if (shown) draw('path', scale, { d: `M${place(middle)},6V118`, stroke: 'currentColor', 'stroke-width': 2, 'stroke-dasharray': '4 3' });
    draw('path', scale, { d: `M${place(guess)},118l-5,9h10Z`, fill: roles.null });
    draw('path', scale, { d: `M${place(R)},6V118`, stroke: roles.g_cls, 'stroke-width': 4 });
    level.firstChild.textContent = `R = ${R.toFixed(2)}`;
    say(left, `${K} arrows from one point; drag a tip, or use the sliders.`);
    say(right, `The same arrows head to tail; their sum has length ${R.toFixed(2)}.`);
    const side = R > high ? 'above' : R < low ? 'below' : 'inside', own_mean = thrown.length ? mean(thrown) : 0;
    say(scale, shown ? `R is ${R.toFixed(2)}, ${side} the band of noise.` : `R is ${R.toFixed(2)}, ${thrown.length} throws so far.`);
    desk.numbers = { R, thrown: thrown.length, mean: own_mean };
    const seen = thrown.length ? ` ${thrown.length} throws of noise so far, mean ${own_mean.toFixed(2)}.` : '';
    if (!shown) return `${K} arrows: R = ${R.toFixed(2)}.${seen} What will noise read on average? Set your guess, throw, then show it.`;
    return `${K} arrows: R = ${R.toFixed(2)}.${seen} Pure noise reads ${middle.toFixed(2)} on average (dashed), your guess was ${guess.toFixed(2)}; nine in ten draws lie from ${low.toFixed(2)} to ${high.toFixed(2)}. These arrows lie ${side} the band.`;
  };
}

function wavesView(desk) {
  const { data, body } = desk, { roles, size: [H, W], domains } = data, current = gallery(desk), half = [H >> 1, W >> 1];
  desk.slider('u', 'rows: cycles per image', -half[0] + 1, half[0], 1, roles.combined);
  desk.slider('v', 'columns: cycles per image', 0, half[1], 1, roles.combined);
  desk.slider('shift', 'shift to the right, pixels', -half[1], half[1], 1, roles.g_dom);
  desk.slider('keep', 'strongest waves kept', 1, data.waves, 1, roles.g_cls);
  for (const keep of [1, 5, 20]) desk.button(keep === 1 ? '1 wave' : `${keep} waves`, () => ({ keep }));
  const grid = card(body, '', '', 'grid'), one = (title, role, caption) => maps(card(grid, title, role), caption)[0];
  const whole = one('the gradient', roles.g_dm, 'drag it sideways'), power = one('strength of its waves', roles.g_dm, 'click one; slow waves in the middle');
  const single = one('the wave picked', roles.combined, 'crests red'), circle = drawing(card(grid, 'its arrow', roles.combined), 200, 200), built = one('built from its strongest waves', roles.g_cls, '');
  const near = map(desk.beside, 'the wave picked'), far = drawing(desk.beside, 200, 200);
  const grab = (canvas, move) => {
    let from = null;
    canvas.classList.add('drag');
    const at = ({ clientX, clientY }) => { const box = canvas.getBoundingClientRect(); return [((clientX - box.left) / box.width) * W, ((clientY - box.top) / box.height) * H]; };
    canvas.addEventListener('pointerdown', (event) => { canvas.setPointerCapture(event.pointerId); from = [at(event), { ...desk.state }]; move(...from, at(event)); });
    canvas.addEventListener('pointermove', (event) => { if (from) move(...from, at(event)); });
    for (const end of ['pointerup', 'pointercancel']) canvas.addEventListener(end, () => { from = null; });
  };
  grab(whole, ([x], before, [now]) => desk.change({ shift: Math.min(half[1], Math.max(-half[1], before.shift + Math.round(now - x))) }));
  grab(power, (_, before, [x, y]) => { // of a wave and its mirror image the one with v >= 0
    let u = Math.floor(y) - half[0], v = Math.floor(x) - half[1];
    if (v < 0) [u, v] = [-u, -v];
    desk.change({ u: u <= -half[0] ? half[0] : Math.min(u, half[0]), v: Math.min(v, half[1]) });
  });
  const known = new Map();
  const analysed = (pictures) => { // the waves of one gradient, the strongest first
    const { scene: s } = pictures, key = `${s.label} ${s.number}`;
    if (!known.has(key)) {
      const g = pictures.middle(s.g_domain[s.domain]), { re, im } = transform({ re: g, im: new Float64Array(g.length) }, s.size, -1), found = [];
      for (let u = 0; u < H; u++) for (let v = 0; v < W; v++) {
        const i = u * W + v, j = ((H - u) % H) * W + ((W - v) % W), both = i === j ? 1 : 2;
        if (i <= j) found.push({ u, v, both, a: re[i], b: im[i], energy: both * (re[i] ** 2 + im[i] ** 2) });
      }
      known.set(key, { g, found: found.sort((p, q) => q.energy - p.energy), total: found.reduce((all, { energy }) => all + energy, 0), size: re.map((x, i) => Math.hypot(x, im[i])) });
    }
    return known.get(key);
  };
  const add = (x, { u, v, both, a, b }) => { // a wave in pixels: both arrows of the pair
    const [, sin] = wave(H * W), [cos] = wave(H * W);
    for (let y = 0; y < H; y++) for (let c = 0; c < W; c++) {
      const turn = (u * y * W + v * c * H) % (H * W);
      x[y * W + c] += (both * (a * cos[turn] - b * sin[turn])) / (H * W);
    }
    return x;
  };
  const moved = (x, d) => x.map((_, i) => x[Math.floor(i / W) * W + ((((i % W) - d) % W) + W) % W]);
  const arrows = (svg, a, b, turn) => {
    const long = Math.hypot(a, b) || 1, tip = (p, q) => [100 + (80 * p) / long, 100 - (80 * q) / long], c = Math.cos(turn), s = Math.sin(turn);
    svg.replaceChildren();
    draw('circle', svg, { cx: 100, cy: 100, r: 80, fill: 'none', stroke: '#8a9099' });
    draw('path', svg, { d: `M100,100L${tip(a, b).join()}`, stroke: '#8a9099', 'stroke-width': 2, 'stroke-dasharray': '5 4' });
    const [x, y] = tip(a * c - b * s, a * s + b * c);
    draw('path', svg, { d: `M100,100L${x},${y}`, stroke: roles.combined, 'stroke-width': 6 });
    draw('circle', svg, { cx: x, cy: y, r: 8, fill: roles.combined });
  };
  return () => {
    const pictures = current();
    if (!pictures) return null;
    const { scene: s } = pictures, { u, v, shift, keep } = desk.state, { g, found, total, size } = analysed(pictures);
    const row = (u + H) % H, i = row * W + v, j = ((H - row) % H) * W + ((W - v) % W), rank = found.findIndex((x) => x.u * W + x.v === Math.min(i, j));
    const picked = found[rank], sign = i <= j ? 1 : -1, limit = Math.max(...g.map(Math.abs)) || 1, pattern = (canvas, x, most, text) => { paint(canvas, W, H, (c, y) => signed(0.5 + x[y * W + c] / (2 * most))); say(canvas, text); };
    const lone = moved(add(new Float64Array(H * W), picked), shift), some = found.slice(0, keep), share = some.reduce((all, { energy }) => all + energy, 0) / (total || 1);
    const sum_of = moved(some.reduce(add, new Float64Array(H * W)), shift), turn = (-2 * Math.PI * v * shift) / W, degrees = Math.round((turn * 180) / Math.PI);
    pattern(whole, moved(g, shift), limit, `The gradient of ${domains[s.domain].name}, shifted by ${shift} pixels.`);
    const top = Math.log10(Math.max(...size)), at = (c, y) => ((y + H - half[0]) % H) * W + ((c + W - half[1]) % W);
    paint(power, W, H, (c, y) => (at(c, y) === i || at(c, y) === j ? [255, 60, 60] : viridis((Math.log10(size[at(c, y)] + 1e-30) - top) / 2.5 + 1)));
    say(power, `Strength of the waves; picked: ${u} down, ${v} across (red, with its mirror image).`);
    for (const canvas of [single, near]) pattern(canvas, lone, Math.max(...lone.map(Math.abs)) || 1, `The wave with ${u} cycles down and ${v} across.`);
    for (const svg of [circle, far]) {
      arrows(svg, picked.a, sign * picked.b, turn);
      say(svg, `The arrow of this wave, turned by ${degrees} degrees by the shift; dashed: before.`);
    }
    pattern(built, sum_of, limit, `The ${keep} strongest waves together.`);
    built.caption.textContent = `${keep} of ${found.length}: ${Math.round(100 * share)} % of the energy`;
    desk.numbers = { share, turn: degrees, built: sum_of, strength: Math.sqrt(picked.energy / picked.both) };
    return `Wave (${u}, ${v}): number ${rank + 1} of ${found.length} by energy. A shift of ${shift} pixels turns its arrow by ${degrees} degrees and leaves its length as it is. The ${keep} strongest waves hold ${Math.round(100 * share)} % of the energy.`;
  };
}

function playView(desk) {
  const { data, body } = desk, { runs, steps } = data, grid = card(body, '', '', 'grid');
  desk.slider('place', 'saved step', 0, steps.length - 1, 1, data.roles.combined, (place) => steps[place]);
  const play = desk.button('Play', () => {
    if (desk.timer) return stop();
    if (desk.state.place === steps.length - 1) desk.change({ place: 0 });
    play.textContent = 'Pause';
    desk.timer = setInterval(() => (desk.state.place < steps.length - 1 ? desk.change({ place: desk.state.place + 1 }) : stop()), data.interval);
    return {};
  });
  const stop = desk.stop = () => { clearInterval(desk.timer); desk.timer = null; play.textContent = 'Play'; return {}; };
  const shown = runs.map((run) => ({ ...run, pictures: rows(numbers(run.pictures, Uint8Array), steps.length), canvas: map(card(grid, run.name, run.colour, 'card wide'), '') }));
  const cursors = [['loss', 'loss'], ['accuracy', 'accuracy, %']].filter(([key]) => runs.some((run) => run[key])).map(([key, title]) => {
    const lines = runs.filter((run) => run[key]).map((run) => ({ ...run, points: run[key] })), values = lines.flatMap(({ points }) => points.map((p) => p[1])), end = Math.max(...lines.flatMap(({ points }) => points.map((p) => p[0])));
    const low = Math.min(...values), high = Math.max(...values);
    return chart(card(grid, '', '', 'card wide'), title, lines, [0, Math.max(end, steps[steps.length - 1]), low, high === low ? low + 1 : high], 'step');
  });
  return () => {
    const step = steps[desk.state.place];
    shown.forEach(({ name, pictures, canvas, columns }) => {
      sheet(canvas, pictures[desk.state.place], data.size, columns, `${data.what} of the run ${name} after ${step} steps.`);
      canvas.caption.textContent = `after ${step} steps`;
    });
    cursors.forEach((cursor) => cursor(step, `one line per run, cursor at step ${step}.`));
    return `Step ${step} of ${steps[steps.length - 1]}: ${runs.map((run) => run.name).join(', ')}.`;
  };
}

const VIEWS = { explore: exploreView, peel: peelView, arrows: arrowsView, waves: wavesView, play: playView };

// ---- 7. The desk: controls, state, theme -------------------------------------------------------------------------
const seen = new WeakMap(); // model -> its scenes, for all places where one widget is shown

function follow_theme(root) { // of the page around: JupyterLab says it, others show it
  const wanted = matchMedia('(prefers-color-scheme: dark)');
  let outer = document;
  try { if (window.parent !== window && window.frameElement) outer = window.parent.document; } catch { /* another origin */ }
  const dark = () => {
    const named = outer.body.dataset.jpThemeLight;
    if (named) return named === 'false';
    for (const node of outer === document && !root.dataset.inside ? [] : [outer.body, outer.documentElement]) {
      const [r, g, b, a = 1] = (getComputedStyle(node).backgroundColor.match(/[\d.]+/g) ?? [0, 0, 0, 0]).map(Number);
      if (a > 0) return 0.2126 * r + 0.7152 * g + 0.0722 * b < 128;
    }
    return wanted.matches;
  };
  const theme = () => {
    root.classList.toggle('dark', dark());
    if (!root.dataset.inside) document.documentElement.style.background = getComputedStyle(root).backgroundColor;
  };
  const watch = new MutationObserver(theme);
  for (const node of [outer.documentElement, outer.body]) watch.observe(node, { attributes: true });
  wanted.addEventListener('change', theme);
  theme();
  if (outer !== document) new ResizeObserver(() => { window.frameElement.style.height = `${root.offsetHeight + 4}px`; }).observe(root);
  return () => { watch.disconnect(); wanted.removeEventListener('change', theme); };
}

function render({ model, el }) {
  const data = model.get('data'), root = make('div', el, '', { className: 'dgdd' });
  if (data.live) root.dataset.inside = 'notebook';
  make('style', root, CSS);
  make('h2', root, data.title);
  make('p', root, `What to look for: ${data.look}`, { className: 'quiet' });
  const form = make('form', root, '', { autocomplete: 'off', onsubmit: () => false }), lists = make('div', form, '', { className: 'lists' });
  const turns = make('div', form, '', { className: 'turns' }), beside = make('div', turns, '', { className: 'beside' }), sliders = make('div', turns, '', { className: 'sliders' });
  const buttons = make('div', form, '', { className: 'buttons' });
  form.setAttribute('aria-label', 'Settings');
  const error = make('p', root, '', { className: 'error', hidden: true }), readout = make('p', root);
  error.setAttribute('role', 'alert');
  readout.setAttribute('role', 'status');
  if (!seen.has(model)) seen.set(model, new Map());
  const desk = { data, form, beside, sliders, body: make('div', root), state: { ...data.start, ...model.get('state') }, scenes: seen.get(model), controls: {}, shows: {}, numbers: {}, follow() {}, stop() {} };

  const keys = (node) => { node.setAttribute('data-lm-suppress-shortcuts', 'true'); return node; }; // JupyterLab takes none of them
  function control(parent, id, text, tag, settings) {
    const label = desk.controls[id] = make('label', parent), name = make('span', label, text), input = keys(make(tag, label, '', { name: id, ...settings }));
    say(input, text);
    return { input, name };
  }
  desk.list = (id, text) => {
    const { input } = control(lists, id, text, 'select'), offer = (entries) => {
      input.replaceChildren();
      entries.forEach(([value, word]) => make('option', input, word, { value: JSON.stringify(value) }));
      input.value = JSON.stringify(desk.state[id]);
      desk.controls[id].hidden = entries.length < 2;
    };
    input.addEventListener('change', () => desk.change({ [id]: JSON.parse(input.value) }));
    desk.shows[id] = (value) => { input.value = JSON.stringify(value); };
    return offer;
  };
  desk.slider = (id, text, min, max, step, colour, words = (x) => x.toFixed(step >= 1 ? 0 : step < 0.1 ? 2 : 1), parent = sliders) => {
    const { input, name } = control(parent, id, text, 'input', { type: 'range', min, max, step }), output = make('b', name, '', { className: 'number' });
    desk.controls[id].style.setProperty('--role', colour);
    input.addEventListener('input', () => desk.change({ [id]: Number(input.value) }));
    desk.shows[id] = (value) => {
      input.value = value;
      output.textContent = words(value);
      input.setAttribute('aria-valuetext', words(value));
    };
  };
  desk.button = (text, act) => keys(make('button', buttons, text, { type: 'button', onclick: () => desk.change(act()) }));
  const view = VIEWS[data.kind](desk);
  desk.reset = () => { desk.stop(); desk.change(data.start); };
  desk.button('Reset', () => { desk.stop(); return data.start; });

  let pause, good = { ...desk.state };
  function show() {
    desk.follow();
    for (const [id, set] of Object.entries(desk.shows)) set(desk.state[id]);
    const text = view();
    if (text === null) { // a scene that Python has to compute
      readout.textContent = 'Computing gradients.';
      model.set('wanted', [desk.state.label, desk.state.image, Date.now()]);
      model.save_changes();
      return;
    }
    good = { ...desk.state };
    error.hidden = true;
    clearTimeout(pause); // the sentence is read out when the slider rests
    pause = setTimeout(() => { readout.textContent = text; }, 120);
  }
  desk.change = (changes) => {
    Object.assign(desk.state, changes);
    show();
    model.set('state', { ...desk.state });
    model.save_changes();
  };
  const remember = (sent) => sent?.image && desk.scenes.set(`${sent.label} ${sent.number}`, new Scene(sent, data));
  const found = () => { remember(model.get('found')); show(); };
  const told = () => { // moved by Python, or in another place where the widget is shown
    const state = model.get('state');
    if (Object.entries(state).every(([name, value]) => desk.state[name] === value)) return;
    Object.assign(desk.state, state);
    show();
  };
  const failed = () => {
    error.textContent = `Not drawn: ${model.get('error')[0]} The picture is the last good one.`;
    error.hidden = !model.get('error')[0];
    readout.textContent = '';
    Object.assign(desk.state, { label: good.label, image: good.image });
    desk.follow();
  };
  model.get('scenes').forEach(remember);
  remember(model.get('found'));
  const heard = Object.entries({ 'change:found': found, 'change:state': told, 'change:error': failed });
  heard.forEach(([name, act]) => model.on(name, act));
  const leave = follow_theme(root);
  show();
  root.desk = desk; // for a test, or a curious reader in the console: document.querySelector('.dgdd').desk.change({alpha: 1})
  return () => {
    leave();
    desk.stop();
    heard.forEach(([name, act]) => model.off(name, act));
  };
}

export default { render };

// The ribbon of a backbone on a canvas: turn by dragging, zoom by the wheel, ask by pointing.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const canvas = document.getElementById("canvas"), pen = canvas.getContext("2d");
  const info = document.getElementById("info"), mode = document.getElementById("mode");
  const grey = document.getElementById("again");
  const cells = [...document.querySelectorAll(".r")];
  const THICK = 0.4, GREY = [150, 150, 150];
  const HALF = { a: 1.25, b: 1.0, c: 0.15 };  // half the width of a ribbon, Å

  const sum = (a, b, s = 1) => [a[0] + s * b[0], a[1] + s * b[1], a[2] + s * b[2]];
  const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
  const cross = (a, b) => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
  const unit = a => { const n = Math.hypot(...a) || 1; return [a[0] / n, a[1] / n, a[2] / n]; };
  const mix = (a, b, t) => [0, 1, 2].map(k => a[k] + t * (b[k] - a[k]));
  const rgb = hex => [1, 3, 5].map(k => parseInt(hex.slice(k, k + 2), 16));

  // Residues that hang together, as lists of their numbers.
  function runs(model) {
    const out = [];
    model.ca.forEach((p, i) => {
      if (!p) return;
      if (i && model.ca[i - 1] && model.linked[i - 1]) out.at(-1).push(i); else out.push([i]);
    });
    return out;
  }

  // Quads of one run: a Catmull-Rom curve through CA, as wide as the element, along C=O.
  function ribbon(model, run, plain, quads) {
    const n = run.length, sse = run.map(i => plain ? "c" : data.sse[i]);
    const ca = run.map(i => model.ca[i]);
    const p = ca.map((x, k) => sse[k] === "b" && k && k < n - 1
      ? mix(x, mix(ca[k - 1], ca[k + 1], 0.5), 0.5) : x);
    let side = ca.map((x, k) => {
      const o = model.o[run[k]], a = ca[Math.max(0, k - 1)], b = ca[Math.min(n - 1, k + 1)];
      const along = unit(sum(b, a, -1)), w = o ? sum(o, x, -1) : cross(along, [0.3, 0.5, 0.8]);
      return unit(sum(w, along, -dot(w, along)));
    });
    side.forEach((s, k) => { if (k && dot(s, side[k - 1]) < 0) side[k] = s.map(v => -v); });
    side = side.map((s, k) => unit(sum(sum(s, s), sum(side[Math.max(0, k - 1)], side[Math.min(n - 1, k + 1)]))));
    const steps = model.ca.length > 1500 ? 3 : 8;
    let before = null;
    for (let k = 0; k < n - 1; k++) {
      const [a, b, c, d] = [p[Math.max(0, k - 1)], p[k], p[k + 1], p[Math.min(n - 1, k + 2)]];
      const tip = sse[k] === "b" && sse[k + 1] !== "b";  // an arrow ends a strand
      if (tip) before = null;
      for (let j = before ? 1 : 0; j <= steps; j++) {
        const t = j / steps, t2 = t * t, t3 = t2 * t, smooth = t2 * (3 - 2 * t);
        const at = [0, 1, 2].map(x => 0.5 * (2 * b[x] + (c[x] - a[x]) * t
          + (2 * a[x] - 5 * b[x] + 4 * c[x] - d[x]) * t2 + (3 * b[x] - a[x] - 3 * c[x] + d[x]) * t3));
        const half = tip ? 1.7 * (1 - t) + HALF.c * t : HALF[sse[k]] + smooth * (HALF[sse[k + 1]] - HALF[sse[k]]);
        const s = unit(mix(side[k], side[k + 1], t));
        const here = [sum(at, s, half), sum(at, s, -half)];
        if (before) {
          const normal = unit(cross(sum(here[0], before[0], -1).map((v, x) => v + here[1][x] - before[1][x]), s));
          quads.push({ points: [...before, here[1], here[0]], normal, i: run[t > 0.5 ? k + 1 : k], plain });
        }
        before = here;
      }
    }
  }

  const models = [data, ...(data.again ? [data.again] : [])];
  const quads = [[], []];
  models.forEach((m, which) => runs(m).forEach(run => ribbon(m, run, which > 0, quads[which])));
  const reach = Math.max(8, ...data.ca.filter(Boolean).map(p => Math.hypot(...p)));
  const ends = data.chain.flatMap((c, i) => [
    ...(c !== data.chain[i - 1] ? [[i, "N"]] : []), ...(c !== data.chain[i + 1] ? [[i, "C"]] : []),
  ]).filter(([i]) => data.ca[i]);

  let turn = [[1, 0, 0], [0, 1, 0], [0, 0, 1]], zoom = 1, pinned = -1, hovered = -1, waiting = false;
  let colours = {};
  const scale = () => zoom * 0.46 * Math.min(canvas.clientWidth, canvas.clientHeight) / reach;
  function project(p) {
    const s = scale();
    return [canvas.clientWidth / 2 + s * dot(turn[0], p), canvas.clientHeight / 2 - s * dot(turn[1], p), dot(turn[2], p)];
  }
  function rotate(x, y) {  // about the axes of the screen, radians
    const [cx, sx, cy, sy] = [Math.cos(x), Math.sin(x), Math.cos(y), Math.sin(y)];
    const [r0, r1, r2] = turn;
    const u = sum(r0.map(v => v * cy), r2, sy), w = sum(r2.map(v => v * cy), r0, -sy);
    turn = [u, sum(r1.map(v => v * cx), w, -sx), sum(w.map(v => v * cx), r1, sx)];
    redraw();
  }

  function draw() {
    waiting = false;
    const dpr = window.devicePixelRatio || 1, s = scale();
    canvas.width = canvas.clientWidth * dpr;
    canvas.height = canvas.clientHeight * dpr;
    pen.scale(dpr, dpr);
    pen.lineJoin = "round";
    const shown = [...quads[0], ...(grey && grey.checked ? quads[1] : [])].map(q => {
      const points = q.points.map(project);
      return { q, points, z: points[0][2] + points[1][2] + points[2][2] + points[3][2] };
    }).sort((a, b) => a.z - b.z);
    for (const { q, points: [a, b, c, d], z } of shown) {
      const light = 0.62 + 0.38 * Math.abs(dot(turn[2], q.normal));
      const fog = Math.min(0.65, Math.max(0, 0.32 - 0.36 * z / 4 / reach));  // far is pale
      const colour = (q.plain ? GREY : colours[q.i]).map(v => Math.round(v * light * (1 - fog) + 250 * fog));
      const thick = Math.max(1, THICK * s);
      if (!q.plain) {  // a dark rim along the ribbon, which the ribbon then covers but for its edge
        pen.strokeStyle = `rgb(${colour.map(v => Math.round(v * 0.6))})`;
        pen.lineWidth = thick + Math.max(1, 0.16 * s);
        pen.beginPath();
        pen.moveTo(a[0], a[1]); pen.lineTo(d[0], d[1]); pen.moveTo(b[0], b[1]); pen.lineTo(c[0], c[1]);
        pen.stroke();
      }
      pen.strokeStyle = pen.fillStyle = `rgb(${colour})`;
      pen.lineWidth = thick;
      pen.beginPath();
      pen.moveTo(a[0], a[1]); pen.lineTo(b[0], b[1]); pen.lineTo(c[0], c[1]); pen.lineTo(d[0], d[1]);
      pen.closePath(); pen.fill(); pen.stroke();
    }
    pen.fillStyle = "#333"; pen.font = "12px system-ui, sans-serif";
    for (const [i, letter] of ends) {
      const [x, y] = project(data.ca[i]);
      pen.fillText(letter, x + 6, y - 6);
    }
    for (const [i, width] of [[pinned, 2.5], [hovered, 1.5]]) {
      if (i < 0 || !data.ca[i]) continue;
      const [x, y] = project(data.ca[i]);
      pen.strokeStyle = "#000"; pen.lineWidth = width;
      pen.beginPath(); pen.arc(x, y, 8, 0, 7); pen.stroke();
    }
  }
  function redraw() { if (!waiting) { waiting = true; requestAnimationFrame(draw); } }

  function describe(i) {
    const parts = [`${data.label[i]} (${data.sequence[i]})`];
    parts.push(data.code[i] < 0 ? "no code" : `code ${data.code[i]}${data.alphabet ? " " + data.alphabet[data.code[i]] : ""}`);
    if (data.confidence && data.confidence[i] !== null) parts.push(`confidence ${data.confidence[i]}`);
    if (data.distance && data.distance[i] !== null) parts.push(`${data.distance[i].toFixed(2)} Å off`);
    const same = data.code[i] < 0 ? [] : data.label.filter((_, j) => j !== i && data.code[j] === data.code[i]);
    if (same.length) parts.push(`same code: ${same.slice(0, 12).join(", ")}${same.length > 12 ? ", …" : ""}`);
    return parts.join(" · ");
  }
  function show() {
    const i = hovered >= 0 ? hovered : pinned;
    info.textContent = i < 0 ? "Point at a residue, or click to keep it." : describe(i);
    cells.forEach((cell, j) => {
      cell.classList.toggle("here", j === hovered);
      cell.classList.toggle("pinned", j === pinned);
      cell.classList.toggle("same", i >= 0 && data.code[i] >= 0 && data.code[j] === data.code[i]);
    });
    redraw();
  }
  function hover(i) { if (i !== hovered) { hovered = i; show(); } }
  function pin(i) {
    pinned = i;
    try {
      history.replaceState(null, "", i < 0 ? "#" : "#" + encodeURIComponent(data.label[i]));
    } catch { /* a page inside a notebook has no address of its own */ }
    if (i >= 0) cells[i].scrollIntoView({ block: "nearest" });
    show();
  }
  function under(event) {
    const box = canvas.getBoundingClientRect(), x = event.clientX - box.left, y = event.clientY - box.top;
    let best = -1, least = 200;
    data.ca.forEach((p, i) => {
      if (!p) return;
      const q = project(p), far = (q[0] - x) ** 2 + (q[1] - y) ** 2;
      if (far < 200 && far - 6 * q[2] < least) { least = far - 6 * q[2]; best = i; }  // nearer ones first
    });
    return best;
  }

  let held = null, moved = 0;
  canvas.addEventListener("pointerdown", e => { held = [e.clientX, e.clientY]; moved = 0; });
  window.addEventListener("pointerup", () => { held = null; });
  canvas.addEventListener("pointermove", e => {
    if (!held) return hover(under(e));
    const [x, y] = [e.clientX - held[0], e.clientY - held[1]];
    moved += Math.abs(x) + Math.abs(y);
    held = [e.clientX, e.clientY];
    rotate(y / 130, x / 130);
  });
  canvas.addEventListener("pointerleave", () => hover(-1));
  canvas.addEventListener("click", e => { if (moved < 4) pin(under(e)); });
  canvas.addEventListener("wheel", e => {
    e.preventDefault();
    zoom = Math.min(20, Math.max(0.3, zoom * Math.exp(-e.deltaY / 700)));
    redraw();
  }, { passive: false });
  cells.forEach((cell, i) => {
    cell.addEventListener("pointerenter", () => hover(i));
    cell.addEventListener("pointerleave", () => hover(-1));
    cell.addEventListener("click", () => pin(i));
  });
  document.addEventListener("keydown", e => {
    if (e.key === "Escape") pin(-1);
    const by = { ArrowLeft: -1, ArrowRight: 1 }[e.key];
    if (by && pinned >= 0 && e.target !== mode) pin(Math.min(cells.length - 1, Math.max(0, pinned + by)));
  });
  function paint() { colours = data.colours[mode.value].map(rgb); redraw(); }
  mode.addEventListener("change", paint);
  if (grey) grey.addEventListener("change", redraw);
  window.addEventListener("resize", redraw);
  paint();
  pin(data.label.indexOf(decodeURIComponent(location.hash.slice(1))));
})();

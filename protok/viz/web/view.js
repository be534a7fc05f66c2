// The page of a structure: 3Dmol.js draws and turns it; here are colours, the legend, and what is pointed at.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const [stage, info, mode, legend, again, ligands] =
    ["stage", "info", "mode", "legend", "again", "ligands"].map(id => document.getElementById(id));
  const cells = [...document.querySelectorAll(".r")];
  const LARGE = 1500;  // residues from which on ribbons are drawn with fewer faces
  const NUCLEOTIDES = ["A", "C", "G", "U", "DA", "DC", "DG", "DT"];  // those that it draws as ribbons
  let pinned = -1, hovered = -1, viewer = null;

  const point = ([x, y, z]) => ({ x, y, z });
  // A run of residues that hang together is a chain to 3Dmol.js, so that no ribbon spans a gap.
  const trace = model => model.ca.flatMap((ca, i) => ca === null ? [] : [["CA", ca], ["O", model.o[i]]].map(
    ([atom, place]) => ({
      ...point(place), atom, elem: atom[0], resn: "ALA", resi: i, chain: `${model.run[i]}`, ss: data.sse[i], hetflag: false,
    })));
  const beside = () => data.ligands.map(([elem, atom, resn, label, ...place], i) => ({
    ...point(place), elem, atom, resn, resi: label, chain: "", serial: i, hetflag: !NUCLEOTIDES.includes(resn),
  }));

  function draw() {
    viewer = $3Dmol.createViewer(stage, {
      backgroundColor: "white", hoverDuration: 20, cartoonQuality: data.ca.length > LARGE ? 4 : 10,
    });
    const models = [trace(data), data.again ? trace(data.again) : [], data.ligands ? beside() : []].map(atoms => {
      const model = viewer.addModel();
      model.addAtoms(atoms);
      return model;
    });
    models[1].setStyle({}, { cartoon: { style: "trace", color: "#8a8a8a", thickness: 0.25 } });
    models[2].assignBonds();
    models[2].setStyle({ hetflag: true }, { stick: { radius: 0.18 }, sphere: { scale: 0.28 } });
    models[2].setStyle({ hetflag: false }, { cartoon: { color: "#b8a68c" } });
    viewer.setHoverable({ model: models[0] }, true, atom => hover(atom.resi), () => hover(-1));
    viewer.setClickable({ model: models[0] }, true, atom => pin(atom.resi));
    viewer.setHoverable({ model: models[2] }, true, atom => say(`${data.beside[atom.resi]}, atom ${atom.atom}`), () => show());
    ends().forEach(([i, text]) => viewer.addLabel(text, {
      position: point(data.ca[i]), fontSize: 14, fontColor: "black", backgroundColor: "white", backgroundOpacity: 0.6,
    }, undefined, true));
    const switches = [[again, models[1]], [ligands, models[2]]].filter(([box]) => box);
    switches.forEach(([box, model]) => box.addEventListener("change", () => {
      model[box.checked ? "show" : "hide"]();
      viewer.render();
    }));
    paint = () => {
      const { colours } = data.schemes[mode.value];
      models[0].setStyle({}, { cartoon: { colorfunc: atom => colours[atom.resi], arrows: true } });
      viewer.render();
    };
    // It lies flat, longest across: it fills the stage as it lies, not as it may be turned.
    const [x, y, far] = [p => Math.abs(p[0]), p => Math.abs(p[1]), p => Math.hypot(...p)].map(
      size => data.ca.reduce((most, p) => p ? Math.max(most, size(p)) : most, 1));
    viewer.zoomTo();
    viewer.zoom(0.95 * Math.min(far / y, far / x * stage.clientWidth / stage.clientHeight));
  }
  // Both ends of every chain; of many chains they would cover the picture.
  function ends() {
    const all = data.chain.flatMap((c, i) => [
      ...(c !== data.chain[i - 1] ? [[i, "N"]] : []), ...(c !== data.chain[i + 1] ? [[i, "C"]] : []),
    ]);
    return all.length > 16 ? [] : all.filter(([i]) => data.ca[i]);
  }
  let paint = () => {};
  try { draw(); } catch (error) {
    stage.textContent = "This browser draws no WebGL, which the picture needs. The letters are below.";
  }

  function describe(i) {
    const code = data.code[i], parts = [`${data.label[i]} (${data.sequence[i]})`];
    parts.push(code < 0 ? "no letter" : `letter ${data.names[code]}${data.words[code] ? `: ${data.words[code]}` : ""}`);
    for (const [key, unit] of [["bfactor", "B-factor"], ["confidence", "confidence"], ["distance", "Å off"]]) {
      const value = data[key] ? data[key][i] : null;
      if (value !== null) parts.push(key === "distance" ? `${value.toFixed(2)} ${unit}` : `${unit} ${value}`);
    }
    const same = code < 0 ? [] : data.label.filter((_, j) => j !== i && data.code[j] === code);
    if (same.length) parts.push(`same letter: ${same.slice(0, 12).join(", ")}${same.length > 12 ? ", …" : ""}`);
    return parts.join(" · ");
  }
  function say(text) { info.textContent = text; }
  function show(code = -1) {
    const i = hovered >= 0 ? hovered : pinned;
    if (code < 0 && i >= 0) code = data.code[i];
    say(i < 0 ? "Point at a residue or a letter, or click to keep it." : describe(i));
    cells.forEach((cell, j) => {
      cell.classList.toggle("here", j === hovered);
      cell.classList.toggle("pinned", j === pinned);
      cell.classList.toggle("same", code >= 0 && data.code[j] === code);
    });
    if (!viewer) return;
    viewer.removeAllShapes();
    for (const [j, radius] of [[pinned, 1.6], [hovered, 1.2]])
      if (j >= 0 && data.ca[j]) viewer.addSphere({ center: point(data.ca[j]), radius, color: "black", opacity: 0.55 });
    viewer.render();
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
  function choose() {
    legend.replaceChildren(...data.schemes[mode.value].legend.map(({ colour, name, code }) => {
      const item = document.createElement("span"), swatch = document.createElement("i");
      swatch.style.background = colour;
      item.append(swatch, name);
      if (code < 0) return item;
      item.title = data.words[code];
      item.addEventListener("pointerenter", () => { show(code); say(`letter ${name}: ${data.words[code]}`); });
      item.addEventListener("pointerleave", () => show());
      return item;
    }));
    paint();
  }
  mode.addEventListener("change", choose);
  choose();
  pin(data.label.indexOf(decodeURIComponent(location.hash.slice(1))));
})();

// Classifies images in the browser. heads.json describes the graph in ensemble.onnx: tasks, classes, borders, views.
import * as ort from "./onnxruntime/ort.wasm.min.mjs";

const $ = (id) => document.getElementById(id);
const WHITE = "#ffffff"; // behind transparent pixels, as in combine.py
const READ = { willReadFrequently: true };
const SHOWN = 480; // pixels of a displayed image's longer side
export const entries = []; // images in the order they were added: {file, name, faces, byHand, article}
const urls = { heads: "heads.json", graph: "ensemble.onnx", detector: "detector.onnx", card: "model_card.md" };
let heads, session, detector; // the description and the two graphs
let running = false, waiting = []; // one image at a time

// ---- Elements. Text is always set as text, so that no file name is read as HTML. ----

function element(tag, { text, ...attributes } = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text !== undefined) made.textContent = text;
  made.append(...children);
  return made;
}

function button(text, onclick) {
  const made = element("button", { type: "button", text });
  made.addEventListener("click", onclick);
  return made;
}

function svg(tag, attributes, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

function canvas(width, height, attributes = {}) {
  return Object.assign(element("canvas", attributes), { width, height });
}

const percent = (share) => `${(100 * share).toFixed(1)}\u00a0%`;
const say = (text) => { $("status").textContent = text; };
const largest = (values) => values.indexOf(Math.max(...values));
const breathe = () => new Promise((done) => setTimeout(done)); // lets the browser draw

// ---- Images: a file to pixels as data.images reads them. ----

class BadImage extends Error {}

async function decode(file) {
  if (!file.size) throw new BadImage("an empty file, expected an image");
  if (file.size > heads.limits.bytes) throw new BadImage(`${file.size} bytes, expected at most ${heads.limits.bytes}`);
  const [width, height] = await sizeOf(file);
  const most = heads.limits.pixels.toLocaleString("en");
  if (width * height > heads.limits.pixels) throw new BadImage(`${width} x ${height} pixels, expected at most ${most}`);
  if (!await isWhole(file)) throw new BadImage("the image is cut short");
  let bitmap;
  try { // upright by its EXIF orientation, without its colour profile
    bitmap = await createImageBitmap(file, { imageOrientation: "from-image", colorSpaceConversion: "none" });
  } catch {
    throw new BadImage("the image cannot be decoded");
  }
  const whole = canvas(bitmap.width, bitmap.height);
  const context = whole.getContext("2d", READ);
  if (!context) throw new BadImage(`${width} x ${height} pixels are too many for this browser`);
  context.fillStyle = WHITE;
  context.fillRect(0, 0, whole.width, whole.height);
  context.drawImage(bitmap, 0, 0); // at its own size: a canvas scales in its own way
  bitmap.close();
  return whole;
}

function sizeOf(file) { // from the header alone: a browser decodes an image when it is drawn
  const image = new Image(), url = URL.createObjectURL(file);
  return new Promise((done, fail) => {
    image.onload = () => done([image.naturalWidth, image.naturalHeight]);
    image.onerror = () => fail(new BadImage("no image that this browser reads, expected JPEG, PNG or another"));
    image.src = url;
  }).finally(() => URL.revokeObjectURL(url));
}

async function isWhole(file) { // browsers draw what there is of a cut JPEG or PNG
  const bytes = async (start, end) => new Uint8Array(await file.slice(start, end).arrayBuffer());
  const start = await bytes(0, 8), end = await bytes(Math.max(0, file.size - 65536), file.size);
  const has = (...mark) => end.some((_, i) => mark.every((byte, j) => end[i + j] === byte));
  if (start[0] === 0xff && start[1] === 0xd8) return has(0xff, 0xd9);
  if (start[1] === 0x50 && start[2] === 0x4e && start[3] === 0x47) return has(0x49, 0x45, 0x4e, 0x44);
  return true;
}

function tensor(image, { x, y, width, height }) {
  const rgba = image.getContext("2d", READ).getImageData(x, y, width, height).data;
  const rgb = new Uint8Array(3 * width * height);
  for (let from = 0, to = 0; from < rgba.length; from += 4) {
    rgb[to++] = rgba[from];
    rgb[to++] = rgba[from + 1];
    rgb[to++] = rgba[from + 2];
  }
  return new ort.Tensor("uint8", rgb, [1, height, width, 3]);
}

// ---- Faces: data.boxes.detector and data.images.crop. ----

async function findFaces(image) {
  const { stride, longest, threshold, overlap } = heads.detector, { width, height } = image;
  const scale = Math.min(1, longest / Math.max(width, height));
  const [high, wide] = [height, width].map((side) => Math.max(32, Math.ceil(Math.round(side * scale) / 32) * 32));
  const size = new ort.Tensor("int64", BigInt64Array.from([1, high, wide, 3], BigInt), [4]);
  const outputs = await detector.run({ photographs: tensor(image, { x: 0, y: 0, width, height }), size });
  const [heat, sizes, offsets] = detector.outputNames.map((name) => outputs[name].data);
  const columns = wide / stride, places = heat.length, found = [];
  heat.forEach((score, place) => {
    if (!(score > threshold)) return;
    const [y, x] = [Math.floor(place / columns), place % columns]
      .map((at, axis) => (at + offsets[axis * places + place] + 0.5) * stride);
    const [h, w] = [0, 1].map((axis) => Math.exp(sizes[axis * places + place]) * stride);
    found.push({ x0: x - w / 2, y0: y - h / 2, x1: x + w / 2, y1: y + h / 2, score });
  });
  found.sort((one, other) => other.score - one.score);
  const faces = [];
  for (const box of found) if (faces.every((face) => shared(face, box) <= overlap)) faces.push(box);
  return sortBySize(faces.map((box) => {
    const fit = (value, from, to) => Math.round(10 * Math.min(Math.max(value * to / from, 0), to)) / 10;
    return { x0: fit(box.x0, wide, width), y0: fit(box.y0, high, height), x1: fit(box.x1, wide, width),
      y1: fit(box.y1, high, height) };
  }).filter((box) => area(box) > 0));
}

const area = (box) => Math.max(0, box.x1 - box.x0) * Math.max(0, box.y1 - box.y0);
const sortBySize = (boxes) => boxes.sort((one, other) => area(other) - area(one));

function shared(one, other) { // intersection over union
  const both = area({ x0: Math.max(one.x0, other.x0), y0: Math.max(one.y0, other.y0), x1: Math.min(one.x1, other.x1),
    y1: Math.min(one.y1, other.y1) });
  return both / (area(one) + area(other) - both);
}

function crop(image, box) { // the box with its margin, within the image; without a box the whole image
  if (!box) return { x: 0, y: 0, width: image.width, height: image.height };
  const { above, below, beside } = heads.margins, wide = box.x1 - box.x0, high = box.y1 - box.y0;
  const x = Math.max(Math.floor(box.x0 - beside * wide), 0), y = Math.max(Math.floor(box.y0 - above * high), 0);
  const right = Math.min(Math.ceil(box.x1 + beside * wide), image.width);
  return { x, y, width: right - x, height: Math.min(Math.ceil(box.y1 + below * high), image.height) - y };
}

// ---- Answers. ----

async function classify(image, box) {
  const place = crop(image, box), start = performance.now();
  const count = $("views").checked ? heads.views : 1;
  const views = new ort.Tensor("int64", BigInt64Array.from({ length: count }, (_, i) => BigInt(i)), [count]);
  const outputs = await session.run({ photographs: tensor(image, place), views });
  const tasks = heads.tasks.map((task) => {
    const probabilities = Array.from(outputs[task.name].data), best = largest(probabilities);
    const { number, distribution, maps } = task.outputs;
    return {
      task, probabilities, best,
      number: number && outputs[number].data[0],
      distribution: distribution && Array.from(outputs[distribution].data),
      map: maps && mapOf(outputs[maps], best),
    };
  });
  const code = tasks.reduce((sum, { task, best }) => sum * task.classes.length + best, 0);
  return { box, place, tasks, code, joint: outputs[heads.joint].data[code], time: performance.now() - start, count };
}

function mapOf({ data, dims: [, , rows, columns] }, place) {
  return { rows, columns, values: data.slice(place * rows * columns, (place + 1) * rows * columns) };
}

const className = ({ task, best }) => task.classes[best];
const jointName = (answer) => answer.tasks.map(className).join(" / ");

async function answer(entry) {
  const start = performance.now(), image = await decode(entry.file);
  let boxes = entry.byHand;
  if (detector && $("find").checked) boxes = sortBySize([...await findFaces(image), ...boxes]);
  entry.ready = performance.now() - start;
  entry.answers = [];
  for (const box of boxes.length ? boxes : [null]) entry.answers.push(await classify(image, box));
  entry.time = performance.now() - start;
  show(entry, image);
}

async function work(added) {
  waiting.push(...added);
  if (running) return;
  running = true;
  $("results").setAttribute("aria-busy", "true");
  if (!await loaded) return;
  let done = 0;
  while (waiting.length) {
    const entry = waiting.shift();
    say(`Image ${++done} of ${done + waiting.length}: ${entry.name}`);
    await breathe();
    try {
      await answer(entry);
    } catch (error) {
      remove(entry);
      const reason = error instanceof BadImage ? error.message : `it cannot be answered (${error.message ?? error})`;
      $("problems").append(element("li", { text: `${entry.name}: ${reason}` }));
    }
  }
  running = false;
  $("results").setAttribute("aria-busy", "false");
  showTable();
  const bad = $("problems").children.length, count = entries.length;
  const last = count === 1 ? `: ${entries[0].answers.map(jointName).join("; ")}` : "";
  say(`${count} ${count === 1 ? "image" : "images"} answered${last}${bad ? `; ${bad} left out, see below` : ""}.`);
}

function add(files) {
  $("problems").replaceChildren();
  const added = Array.from(files, (file) => {
    let name = file.name || "image";
    for (let copy = 2; entries.some((entry) => entry.name === name); copy++) name = `${file.name} (${copy})`;
    const entry = { file, name, byHand: [], answers: [], article: element("article") };
    entries.push(entry);
    $("results").append(entry.article);
    return entry;
  });
  work(added);
}

function remove(entry) {
  entry.article.remove();
  if (entries.includes(entry)) entries.splice(entries.indexOf(entry), 1);
}

function removeAll() {
  waiting = [];
  [...entries].forEach(remove);
  $("problems").replaceChildren();
  showTable();
  say("Removed.");
}

// ---- What people see. ----

function show(entry, image) {
  const longest = Math.max(image.width, image.height), scale = Math.min(Math.max(1, 160 / longest), SHOWN / longest);
  const small = canvas(Math.max(1, Math.round(image.width * scale)), Math.max(1, Math.round(image.height * scale)));
  small.getContext("2d").drawImage(image, 0, 0, small.width, small.height);
  const boxes = entry.answers.map((each) => each.box).filter(Boolean);
  const searched = detector && $("find").checked;
  const whole = searched ? "no face found: the whole image is used" : "the whole image is used";
  const what = boxes.length ? `${boxes.length} ${boxes.length === 1 ? "face" : "faces"}` : whole;
  const picture = canvas(small.width, small.height, { role: "img", "aria-label": `${entry.name}: ${what}` });
  drawBoxes(picture, small, boxes, scale);
  const controls = element("p", { class: "buttons" });
  controls.append(button("Box by hand", () => boxByHand(entry, picture, small, scale, controls)));
  const left = element("div", {}, picture, element("p", { class: "quiet", text: what }), controls);
  const right = element("div", {}, ...entry.answers.map((each, place) => showAnswer(each, place, image)));
  const times = `Decoded${searched ? " and searched for faces" : ""} in ${entry.ready.toFixed(0)} ms; `
    + `all in ${entry.time.toFixed(0)} ms.`;
  entry.article.replaceChildren(element("h2", { text: entry.name }), element("div", { class: "image" }, left, right),
    element("p", { class: "quiet", text: times }));
}

function drawBoxes(picture, small, boxes, scale) {
  const context = picture.getContext("2d"), [dark, light] = ["#000000", "#ffffff"];
  context.drawImage(small, 0, 0);
  Object.assign(context, { font: "bold 14px sans-serif", fillStyle: light });
  boxes.forEach((box, place) => {
    const [x, y, wide, high] = [box.x0, box.y0, box.x1 - box.x0, box.y1 - box.y0].map((each) => each * scale);
    for (const [colour, line] of [[dark, 4], [light, 2]]) {
      Object.assign(context, { strokeStyle: colour, lineWidth: line });
      context.strokeRect(x, y, wide, high);
      context.strokeText(place + 1, x + 4, y + 16);
    }
    context.fillText(place + 1, x + 4, y + 16);
  });
}

function showAnswer(answer, place, image) {
  const { box, tasks, joint, time, count } = answer;
  const title = `${box ? `Face ${place + 1}` : "Image"}: ${jointName(answer)} (${percent(joint)})`;
  const views = count === 1 ? "one view" : `${count} views`;
  const legend = tasks.some((each) => each.map) ? "Orange: where each head looked for its answer. " : "";
  return element("section", { class: "face" }, element("h3", { text: title }),
    element("div", { class: "tasks" }, ...tasks.map((each) => showTask(each, answer, image))),
    element("p", { class: "quiet", text: `${legend}All heads took ${time.toFixed(0)} ms in ${views}.` }));
}

function showTask(result, answer, image) {
  const { task, probabilities, best, number, distribution, map } = result;
  const bars = task.classes.map((name, place) => {
    const fill = element("span"), share = probabilities[place];
    fill.style.width = `${100 * share}%`;
    const text = element(place === best ? "strong" : "span", { text: name });
    return element("li", {}, text, element("span", { text: percent(share) }),
      element("span", { class: "bar", "aria-hidden": "true" }, fill));
  });
  const made = element("div", { class: "task" }, element("h4", { text: task.name }), element("ul", {}, ...bars));
  if (map) made.prepend(drawMap(result, answer.place, image));
  if (distribution) made.append(drawCurve(task, number, distribution));
  return made;
}

// The class activation map over the part of the image that the head saw, through a letterbox, resized or cropped.
function drawMap({ task, best, map }, place, image) {
  const name = `${task.name}: where the head saw "${task.classes[best]}", ${map.columns} x ${map.rows} places`;
  const high = 128, wide = Math.max(1, Math.round(high * place.width / place.height));
  const picture = canvas(Math.min(wide, 2 * high), high, { class: "map", role: "img", "aria-label": name });
  const context = picture.getContext("2d");
  context.drawImage(image, place.x, place.y, place.width, place.height, 0, 0, picture.width, high);
  const heat = canvas(map.columns, map.rows), pixels = heat.getContext("2d").createImageData(map.columns, map.rows);
  const [low, top] = [Math.min(...map.values), Math.max(...map.values)];
  map.values.forEach((value, i) => pixels.data.set([255, 140, 0, 190 * (value - low) / (top - low || 1)], 4 * i));
  heat.getContext("2d").putImageData(pixels, 0, 0);
  const [[step, { height, width }]] = Object.entries(task.scaling), { crop } = task;
  const isClose = crop && place.height < crop.square * place.width;
  const [[y0, y1], [x0, x1]] = crop ? crop[isClose ? "close" : "tall"] : [[0, 1], [0, 1]];
  const shares = [(x1 - x0) * place.width / width, (y1 - y0) * place.height / height];
  const scale = { letterbox: () => 1 / Math.max(...shares), center_crop: () => 1 }[step];
  const used = shares.map((share) => scale ? share * scale() : 1); // of the pixels that the head saw
  context.drawImage(heat, (1 - used[0]) / 2 * map.columns, (1 - used[1]) / 2 * map.rows, used[0] * map.columns,
    used[1] * map.rows, x0 * picture.width, y0 * high, (x1 - x0) * picture.width, (y1 - y0) * high);
  return picture;
}

function drawCurve(task, number, distribution) {
  const [low, high] = task.range, top = Math.max(...distribution), [wide, tall] = [240, 60];
  const at = (value) => (wide * (value - low) / (high - low)).toFixed(1);
  const points = distribution.map((share, place) => `${at(low + place)},${(tall - tall * share / top).toFixed(1)}`);
  const text = (value) => svg("text", { x: at(value), y: tall + 14, "text-anchor": "middle" }, `${value}`);
  const line = (value, name) => svg("line", { x1: at(value), x2: at(value), y1: 0, y2: tall, class: name });
  const borders = task.borders.filter((border) => border > low && border < high);
  const peak = low + largest(distribution);
  const name = `${task.name} from ${low} to ${high}, most probable ${peak}, mean ${number.toFixed(1)}`;
  const curve = svg("svg", { viewBox: `-10 0 ${wide + 20} ${tall + 18}`, role: "img", "aria-label": name },
    svg("polygon", { points: `${at(low)},${tall} ${points.join(" ")} ${at(high)},${tall}`, class: "area" }),
    ...borders.map((border) => line(border, "border")), line(number, "mean"), ...[low, ...borders, high].map(text));
  return element("div", { class: "curve" }, element("p", { text: `${task.name} ${number.toFixed(1)}` }), curve);
}

// ---- A box by hand: with the pointer or the keyboard. ----

function boxByHand(entry, picture, small, scale, controls) {
  let box = { x0: small.width / 3, y0: small.height / 4, x1: 2 * small.width / 3, y1: 3 * small.height / 4 }, from;
  const draw = () => drawBoxes(picture, small, [box], 1);
  const within = (value, most) => Math.min(Math.max(value, 0), most);
  const point = (event) => {
    const { left, top, width } = picture.getBoundingClientRect(), ratio = small.width / width;
    return [within((event.clientX - left) * ratio, small.width), within((event.clientY - top) * ratio, small.height)];
  };
  const move = (x, y, resize) => {
    const [wide, high] = [box.x1 - box.x0, box.y1 - box.y0];
    if (!resize) [box.x0, box.y0] = [within(box.x0 + x, small.width - wide), within(box.y0 + y, small.height - high)];
    box.x1 = within(box.x0 + Math.max(8, wide + resize * x), small.width);
    box.y1 = within(box.y0 + Math.max(8, high + resize * y), small.height);
    draw();
    say(`Box from ${Math.round(box.x0)}, ${Math.round(box.y0)} to ${Math.round(box.x1)}, ${Math.round(box.y1)} of `
      + `${small.width} x ${small.height}`);
  };
  const use = () => {
    if (area(box) < 16) return say("The box is too small: drag over the face, from forehead to chin.");
    entry.byHand.push(Object.fromEntries(Object.entries(box).map(([key, value]) => [key, value / scale])));
    return work([entry]);
  };
  const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  picture.onkeydown = (event) => {
    if (event.key === "Enter") use();
    if (event.key === "Escape") work([entry]);
    if (!(event.key in steps)) return;
    event.preventDefault();
    move(...steps[event.key].map((step) => 4 * step), Number(event.shiftKey));
  };
  picture.onpointerdown = (event) => { from = point(event); picture.setPointerCapture(event.pointerId); };
  picture.onpointermove = (event) => {
    if (!from) return;
    const to = point(event);
    const [x, y] = [0, 1].map((axis) => [from[axis], to[axis]].sort((one, other) => one - other));
    box = { x0: x[0], y0: y[0], x1: x[1], y1: y[1] };
    draw();
  };
  picture.onpointerup = () => { from = undefined; };
  picture.classList.add("boxing");
  picture.setAttribute("role", "application");
  picture.setAttribute("tabindex", "0");
  picture.setAttribute("aria-label", "Box: arrow keys move it, with Shift they resize it, Enter uses it");
  const hint = "Drag over the face, from forehead to chin, or use the arrow keys, with Shift to resize, and Enter.";
  controls.replaceChildren(hint, button("Use this box", use), button("Cancel", () => work([entry])));
  draw();
  picture.focus();
  say(hint);
}

// ---- All answers as a table and as files. ----

function namesOf(answer) { // the columns of combine.py --names
  return answer.tasks.flatMap((each) => {
    const { task, probabilities, best, number } = each;
    const cells = [[task.name, task.classes[best]], [`${task.name}_probability`, probabilities[best].toFixed(3)]];
    return number === undefined ? cells : [...cells, [`${task.name}_number`, number.toFixed(1)]];
  });
}

const entriesWithAnswers = () => entries.filter((entry) => entry.answers.length);

function showTable() {
  const answered = entriesWithAnswers();
  $("overview").hidden = answered.length < 2;
  if (!answered.length) return;
  const headings = ["image", "face", "joint code", ...namesOf(answered[0].answers[0]).map(([name]) => name)];
  $("headings").replaceChildren(...headings.map((text) => element("th", { scope: "col", text })));
  $("rows").replaceChildren(...answered.flatMap((entry, row) => entry.answers.map((each, place) => {
    entry.article.id = `image-${row}`;
    const link = element("a", { href: `#image-${row}`, text: entry.name });
    const cells = [each.box ? place + 1 : "whole", each.code, ...namesOf(each).map(([, value]) => value)];
    return element("tr", {}, element("td", {}, link), ...cells.map((text) => element("td", { text })));
  })));
}

function download(name, rows) { // an image's largest face, as in combine.py --boxes
  const quote = (cell) => /[",\r\n]/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : `${cell}`;
  const lines = rows.map((row) => `${row.map((cell) => quote(String(cell))).join(",")}\n`);
  const url = URL.createObjectURL(new Blob(lines, { type: "text/csv" }));
  element("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}

function downloadSubmission() {
  const rows = entriesWithAnswers().map(({ name, answers }) => [name, answers[0].code]);
  download("submission.csv", [["ImageID", "ans"], ...rows]);
}

function downloadNames() {
  const rows = entriesWithAnswers().map(({ name, answers }) => [["ImageID", name], ...namesOf(answers[0])]);
  download("names.csv", [rows[0].map(([column]) => column), ...rows.map((row) => row.map(([, value]) => value))]);
}

// ---- Camera. ----

async function openCamera() {
  try {
    $("video").srcObject = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "user" } });
    await $("video").play();
    $("live").hidden = false;
    $("take").focus();
    say("The camera is on.");
  } catch (error) {
    closeCamera();
    const reason = navigator.mediaDevices ? error.name : "it needs https or 127.0.0.1";
    say(`The camera cannot be used (${reason}). Choose an image, drop or paste one.`);
  }
}

function closeCamera() {
  $("video").srcObject?.getTracks().forEach((track) => track.stop());
  $("video").srcObject = null;
  $("live").hidden = true;
  $("camera").focus();
}

async function takeImage() {
  const video = $("video"), image = canvas(video.videoWidth, video.videoHeight);
  image.getContext("2d").drawImage(video, 0, 0);
  const blob = await new Promise((done) => image.toBlob(done, "image/png"));
  closeCamera();
  add([new File([blob], "camera.png")]);
}

// ---- Start. ----

async function load(name, url) {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${url}: ${response.status} ${response.statusText}`);
  const total = Number(response.headers.get("content-length")), parts = [];
  let done = 0;
  for (const reader = response.body.getReader(); ;) {
    const { value } = await reader.read();
    if (!value) return new Uint8Array(await new Blob(parts).arrayBuffer());
    parts.push(value);
    done += value.length;
    if (total > 1e6) say(`Loading ${name}: ${(done / 1e6).toFixed(0)} of ${(total / 1e6).toFixed(0)} MB`);
  }
}

function listen() {
  $("camera").addEventListener("click", openCamera);
  $("close").addEventListener("click", closeCamera);
  $("take").addEventListener("click", takeImage);
  $("files").addEventListener("change", () => { add($("files").files); $("files").value = ""; });
  for (const id of ["views", "find"]) $(id).addEventListener("change", () => work(entries));
  $("submission").addEventListener("click", downloadSubmission);
  $("names").addEventListener("click", downloadNames);
  $("clear").addEventListener("click", removeAll);
  addEventListener("paste", (event) => add(event.clipboardData.files));
  addEventListener("dragover", (event) => { event.preventDefault(); $("input").classList.add("over"); });
  addEventListener("dragleave", () => $("input").classList.remove("over"));
  addEventListener("drop", (event) => {
    event.preventDefault();
    $("input").classList.remove("over");
    add(event.dataTransfer.files);
  });
}

async function start() {
  heads = JSON.parse(new TextDecoder().decode(await load("the description", urls.heads)));
  $("title").textContent = document.title = heads.tasks.map((task) => task.name).join(", ");
  $("views-label").hidden = heads.views === 1;
  $("views-text").textContent = `all ${heads.views} views, as combine.py`;
  $("card").textContent = new TextDecoder().decode(await load("the model card", urls.card));
  ort.env.wasm.numThreads = crossOriginIsolated ? Math.min(4, navigator.hardwareConcurrency) : 1;
  ort.env.logLevel = "error";
  session = await ort.InferenceSession.create(await load("the heads", urls.graph));
  if (heads.detector) {
    detector = await ort.InferenceSession.create(await load("the face detector", urls.detector));
    $("find-label").hidden = false;
  }
  say("Warming up.");
  await breathe();
  const grey = canvas(64, 64); // the first run is slow
  if (detector) await findFaces(grey);
  await classify(grey, null);
  const { wasm: { numThreads }, versions } = ort.env;
  $("machine").textContent = `${heads.precision}; threads: ${numThreads}; onnxruntime-web ${versions.web}.`;
  document.documentElement.dataset.ready = "true";
  say("Ready: choose images, drop or paste them, or use the camera.");
}

listen(); // at once: an image that is dropped while the heads load is answered after
const loaded = start().then(() => true, (error) => say(`The page cannot start: ${error.message ?? error}`));

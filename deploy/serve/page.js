"use strict";
// Names and sources are not trusted: they are only ever set as text.

const $ = (id) => document.getElementById(id);
const canvas = $("canvas");
const MAX_BYTES = 32 * 1024 * 1024; // the server refuses more
const state = { token: "", file: null, image: null, box: null, query: "", search: 0 };

function trouble(words) {
  $("trouble").textContent = words;
  $("trouble").hidden = !words;
}

async function ask(path, options = {}) {
  const headers = { ...(options.headers || {}) };
  if (state.token) headers.Authorization = `Bearer ${state.token}`;
  const answer = await fetch(path, { ...options, headers });
  if (answer.status === 401) { showDoor(); throw new Error("The token is missing or wrong."); }
  if (!answer.ok) {
    const body = await answer.json().catch(() => ({}));
    throw new Error(body.error || `The server answered ${answer.status}.`);
  }
  return answer;
}

function guarded(work) {
  return async (...details) => {
    trouble("");
    try { await work(...details); } catch (error) { trouble(error.message); }
  };
}

function showDoor() {
  $("door").hidden = false;
  $("room").hidden = true;
  $("about").textContent = "This gallery needs a token.";
}

const open = guarded(async () => {
  const found = await (await ask("api/gallery")).json();
  sessionStorage.setItem("token", state.token);
  $("door").hidden = true;
  $("room").hidden = false;
  const span = found.first ? `, ${local(found.first)} to ${local(found.last)}` : "";
  $("about").textContent = `${found.gallery}: ${found.images.toLocaleString("en")} images, ` +
    `${found.cameras.length} cameras, ${found.people.length} named people${span}`;
  trouble(found.left_out || "");
  $("cameras").replaceChildren(...found.cameras.map((name) => {
    const label = document.createElement("label");
    const choice = Object.assign(document.createElement("input"), { type: "checkbox", value: name });
    label.append(choice, document.createTextNode(name));
    return label;
  }));
  $("people").replaceChildren(...found.people.slice(0, 5000).map((name) =>
    Object.assign(document.createElement("option"), { value: name })));
});

const take = guarded(async (file) => {
  if (!file) return;
  if (file.size > MAX_BYTES) throw new Error("This file is larger than 32 MB; send a smaller image.");
  const image = await createImageBitmap(file).catch(() => null);
  if (!image) throw new Error("The browser cannot show this file as an image.");
  Object.assign(state, { file, image, box: null });
  canvas.width = image.width;
  canvas.height = image.height;
  canvas.hidden = false;
  $("hint").hidden = true;
  $("search").disabled = false;
  $("other").hidden = false;
  draw();
  await search();
});

function draw() {
  const pen = canvas.getContext("2d");
  pen.drawImage(state.image, 0, 0);
  $("whole").hidden = !state.box;
  if (!state.box) return;
  const [left, top, width, height] = state.box;
  pen.fillStyle = "rgba(0, 0, 0, .45)";
  pen.beginPath();
  pen.rect(0, 0, canvas.width, canvas.height);
  pen.rect(left, top, width, height);
  pen.fill("evenodd");
  pen.strokeStyle = "#ffb020";
  pen.lineWidth = Math.max(2, canvas.width / canvas.clientWidth * 2);
  pen.strokeRect(left, top, width, height);
}

function place(event) {
  const frame = canvas.getBoundingClientRect();
  const clamp = (value, most) => Math.min(most, Math.max(0, Math.round(value)));
  return [
    clamp((event.clientX - frame.left) / frame.width * canvas.width, canvas.width),
    clamp((event.clientY - frame.top) / frame.height * canvas.height, canvas.height),
  ];
}

let corner = null;
canvas.addEventListener("pointerdown", (event) => {
  corner = place(event);
  canvas.setPointerCapture(event.pointerId);
});
canvas.addEventListener("pointermove", (event) => {
  if (!corner) return;
  const [x, y] = place(event);
  state.box = [Math.min(x, corner[0]), Math.min(y, corner[1]),
    Math.abs(x - corner[0]), Math.abs(y - corner[1])];
  draw();
});
canvas.addEventListener("pointerup", () => {
  corner = null;
  if (!state.box) return;
  if (state.box[2] < 4 || state.box[3] < 4) state.box = null;  // a click, not a box
  draw();
  if (state.box) search();
});
canvas.addEventListener("click", (event) => event.stopPropagation());

function conditions() {
  const asked = new URLSearchParams({ k: $("count").value });
  if (state.box) asked.set("box", state.box.join(","));
  for (const choice of $("cameras").querySelectorAll("input:checked")) asked.append("camera", choice.value);
  if ($("person").value) asked.set("person", $("person").value);
  for (const id of ["since", "until"]) {
    if ($(id).value) asked.set(id, new Date($(id).value).toISOString());
  }
  return asked;
}

function local(time) {
  return new Date(time).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "medium" });
}

const search = guarded(async () => {
  if (!state.file) return;
  const turn = ++state.search;  // ignore the response to an older search
  $("words").textContent = "Searching …";
  const answer = await ask(`api/search?${conditions()}`, {
    method: "POST", body: state.file, headers: { "Content-Type": "application/octet-stream" },
  }).catch((error) => {
    if (turn === state.search) { $("words").textContent = ""; $("matches").replaceChildren(); }
    throw error;
  });
  const found = await answer.json();
  if (turn !== state.search) return;
  state.query = found.query;
  const count = found.matches.length;
  $("words").textContent = count
    ? `${count} nearest images, in ${(1000 * found.seconds).toFixed(0)} ms` : "Nothing found.";
  $("limit").textContent = count ? `Within the limit: a distance of ${found.limit.words}.` : "";
  $("matches").replaceChildren(...found.matches.map(card));
  trouble(found.left_out || "");
});

function position(seconds) {
  const whole = Math.floor(seconds);
  const two = (number) => String(number).padStart(2, "0");
  const hours = Math.floor(whole / 3600);
  return `${hours ? `${hours}:` : ""}${two(Math.floor(whole / 60) % 60)}:${two(whole % 60)}`;
}

function card(match, index) {
  const item = document.createElement("li");
  item.dataset.id = match.id;
  const line = (words, kind = "") => {
    const part = Object.assign(document.createElement("div"), { className: kind, textContent: words });
    item.append(part);
    return part;
  };
  picture(match.id, line("…", "picture"), match.person || `match ${index + 1}`);
  line(`${index + 1} · ${match.distance.toFixed(4)}${match.person ? ` · ${match.person}` : ""}`);
  line(match.within ? "within the limit" : "beyond the limit", match.within ? "within" : "beyond");
  item.dataset.within = match.within;
  if (match.camera) line(`camera ${match.camera}`);
  if (match.time) line(local(match.time));
  if (match.seconds !== null) line(`at ${position(match.seconds)}, frame ${match.frame}`);
  line(match.source.split("/").slice(-2).join("/"), "source").title = match.source;
  const verdict = line("", "verdict");
  for (const [same, words, kind] of [[true, "same", "yes"], [false, "different", "no"]]) {
    const button = Object.assign(document.createElement("button"), { textContent: words, className: kind });
    button.addEventListener("click", guarded(async () => {
      const body = JSON.stringify({ query: state.query, id: match.id, same });
      await ask("api/confirm", { method: "POST", body, headers: { "Content-Type": "application/json" } });
      mark(item, same);
    }));
    verdict.append(button);
  }
  mark(item, match.confirmed);
  return item;
}

function mark(item, same) {
  item.className = same === true ? "same" : same === false ? "different" : "";
  item.querySelector(".yes").setAttribute("aria-pressed", same === true);
  item.querySelector(".no").setAttribute("aria-pressed", same === false);
}

async function picture(id, holder, words) {
  try {
    const blob = await (await ask(`api/picture/${id}`)).blob();
    const image = Object.assign(new Image(), { className: "picture", alt: words });
    image.addEventListener("load", () => URL.revokeObjectURL(image.src), { once: true });
    image.src = URL.createObjectURL(blob);
    holder.replaceWith(image);
  } catch {
    holder.textContent = "no picture";
  }
}

const drop = $("drop");
for (const [kind, over] of [["dragenter", true], ["dragover", true], ["dragleave", false], ["drop", false]]) {
  drop.addEventListener(kind, (event) => { event.preventDefault(); drop.classList.toggle("over", over); });
}
drop.addEventListener("drop", (event) => take(event.dataTransfer.files[0]));
drop.addEventListener("click", () => { if (canvas.hidden) $("file").click(); });
drop.addEventListener("keydown", (event) => { if (event.key === "Enter") $("file").click(); });
$("file").addEventListener("click", (event) => event.stopPropagation());
$("file").addEventListener("change", () => take($("file").files[0]));
$("other").addEventListener("click", () => $("file").click());
$("whole").addEventListener("click", () => { state.box = null; draw(); search(); });
$("search").addEventListener("click", () => search());
document.addEventListener("paste", (event) => take(event.clipboardData.files[0]));
document.querySelector("fieldset").addEventListener("change", () => search());
$("door").addEventListener("submit", (event) => {
  event.preventDefault();
  state.token = $("token").value;
  open();
});

// A link may hold the token after the #, which no server sees: http://host:8080/#token=...
const given = new URLSearchParams(location.hash.slice(1)).get("token");
if (given) history.replaceState(null, "", location.pathname);
state.token = given || sessionStorage.getItem("token") || "";
open();

// The query's image: a box is drawn with the mouse or a finger, typed, or chosen among the people
// that a detector finds.

import { state } from "./page.api.js";
import { $, counted, guarded, make } from "./page.dom.js";
import { peopleIn, removeQuery, setBox } from "./page.query.js";

const canvas = $("canvas");
const SMALLEST = 4; // pixels; a smaller drag is a click
const FRAME_RATIO = 0.75; // width by height; a crop of one person is narrower (a choice)

let drawn = null; // the box while it is being drawn
let corner = null;

function current() {
  return state.queries[state.current] || null;
}

/** Whether an image looks like a whole frame rather than like one person. */
export function isFrame(query) {
  return Boolean(query.image && query.file) && query.image.width > FRAME_RATIO * query.image.height;
}

/** Show the queries, and the current one's image, box and people. */
export function showStage() {
  const query = current();
  drawn = corner = null;
  for (const id of ["acts", "boxing", "stage"]) $(id).hidden = !query;
  $("choose").hidden = Boolean(query);
  $("queries").hidden = state.queries.length < 2;
  $("queries").replaceChildren(...state.queries.map(chip));
  if (!query) {
    $("people").hidden = true;
    return;
  }
  const fixed = !query.file;
  $("boxing").hidden = $("detect").hidden = fixed;
  $("detect").hidden ||= !state.gallery?.people_detector;
  $("frame").classList.toggle("fixed", fixed);
  draw();
  showPeople(query);
}

function draw() {
  const query = current();
  const image = query.image;
  canvas.width = image ? image.width : 64;
  canvas.height = image ? image.height : 128;
  $("frame").style.setProperty("--ratio", canvas.width / canvas.height);
  $("frame").style.setProperty("--width", `${canvas.width}px`);
  const pen = canvas.getContext("2d");
  if (image) pen.drawImage(image, 0, 0);
  const box = drawn || query.box;
  $("whole").hidden = !query.box;
  $("box-words").textContent = box ? `${box[0]}, ${box[1]}, ${box[2]} x ${box[3]} pixels` : "whole image";
  const fields = $("box-form").elements;
  const shown = box || [0, 0, canvas.width, canvas.height];
  ["left", "top", "width", "height"].forEach((name, index) => { fields[name].value = shown[index]; });
  if (!box) return;
  const [left, top, width, height] = box;
  pen.fillStyle = "rgba(0, 0, 0, .45)";
  pen.beginPath();
  pen.rect(0, 0, canvas.width, canvas.height);
  pen.rect(left, top, width, height);
  pen.fill("evenodd");
  pen.strokeStyle = "#ffb020";
  pen.lineWidth = Math.max(1, canvas.width / (canvas.clientWidth || canvas.width) * 2);
  pen.strokeRect(left, top, width, height);
}

function chip(query, index) {
  const small = make("canvas", { width: 44, height: 72 });
  if (query.image) {
    const { width, height } = query.image;
    const [left, top, wide, high] = query.box || [0, 0, width, height];
    const scale = Math.min(small.width / wide, small.height / high);
    const [w, h] = [wide * scale, high * scale];
    small.getContext("2d").drawImage(query.image, left, top, wide, high,
      (small.width - w) / 2, (small.height - h) / 2, w, h);
  }
  const open = make("button", {
    type: "button", className: "chip", label: `Query ${index + 1}: ${query.name}`,
    on: { click: () => { state.current = index; showStage(); $("queries").children[index].firstChild.focus(); } },
  }, small);
  open.setAttribute("aria-pressed", index === state.current);
  const remove = make("button", {
    type: "button", className: "remove", text: "×", label: `Remove query ${index + 1}`,
    on: { click: () => { removeQuery(query); document.dispatchEvent(new Event("search")); $("add").focus(); } },
  });
  return make("li", {}, open, remove);
}

function take(box) {
  setBox(current(), box);
  document.dispatchEvent(new Event("search"));
}

function place(event) {
  const frame = canvas.getBoundingClientRect();
  const clamp = (value, most) => Math.min(most, Math.max(0, Math.round(value)));
  return [
    clamp((event.clientX - frame.left) / frame.width * canvas.width, canvas.width),
    clamp((event.clientY - frame.top) / frame.height * canvas.height, canvas.height),
  ];
}

$("frame").addEventListener("pointerdown", (event) => {
  if (!current()?.file || event.button > 0) return;
  corner = place(event);
});
$("frame").addEventListener("pointermove", (event) => {
  if (!corner) return;
  const [x, y] = place(event);
  const box = [Math.min(x, corner[0]), Math.min(y, corner[1]), Math.abs(x - corner[0]), Math.abs(y - corner[1])];
  if (!drawn && Math.max(box[2], box[3]) < SMALLEST) return;
  if (!drawn) $("frame").setPointerCapture(event.pointerId); // from here on it is not a click
  drawn = box;
  draw();
});
$("frame").addEventListener("pointerup", () => {
  const box = drawn;
  drawn = corner = null;
  if (!box) return;
  if (Math.min(box[2], box[3]) < SMALLEST) draw();
  else take(box);
});
$("frame").addEventListener("pointercancel", () => { drawn = corner = null; draw(); });

$("box-form").addEventListener("submit", guarded((event) => {
  event.preventDefault();
  const fields = $("box-form").elements;
  const [left, top, width, height] = ["left", "top", "width", "height"]
    .map((name) => Math.round(Number(fields[name].value)));
  const inside = left >= 0 && top >= 0 && width > 0 && height > 0 &&
    left + width <= canvas.width && top + height <= canvas.height;
  if (!inside) throw new Error(`The box lies inside the image of ${canvas.width} x ${canvas.height} pixels.`);
  take([left, top, width, height]);
}));
$("whole").addEventListener("click", () => { take(null); $("search").focus(); });

/** Find the people in the current image; true if the user has to choose one of them. */
export async function findPeople() {
  const query = current();
  $("people").hidden = false;
  $("people-words").textContent = "Looking for people …";
  try {
    query.people = await peopleIn(query);
  } catch (error) {
    $("people").hidden = true;
    throw error;
  }
  if (query !== current()) return false;
  showPeople(query);
  $("people-list").firstElementChild?.focus({ preventScroll: true });
  return query.people.length > 0;
}

function showPeople(query) {
  const people = query.people || [];
  $("people").hidden = !query.people;
  for (const old of $("frame").querySelectorAll(".someone")) old.remove();
  $("people-words").textContent = people.length
    ? `${counted(people.length, "person", "people")} found: choose one, or draw a box.`
    : "No people found: draw a box.";
  $("people-list").replaceChildren(...people.map((one, index) => {
    const choice = make("button", {
      type: "button", className: "quiet", text: `Person ${index + 1}`,
      on: { click: () => { take(one.box); $("people-list").children[index].focus(); } },
    });
    choice.setAttribute("aria-pressed", String(query.box) === String(one.box));
    return choice;
  }));
  // The same boxes over the image are for the mouse; the list above is for the keyboard.
  const percent = (value, most) => `${(100 * value) / most}%`;
  const places = people.map((one, index) => {
    const [left, top, width, height] = one.box;
    const over = make("button", { type: "button", className: "someone", tabIndex: -1,
      label: `Person ${index + 1} in the image`, on: { click: () => take(one.box) } },
    make("span", { text: index + 1 }));
    Object.assign(over.style, {
      left: percent(left, canvas.width), top: percent(top, canvas.height),
      width: percent(width, canvas.width), height: percent(height, canvas.height),
    });
    over.classList.toggle("taken", String(query.box) === String(one.box));
    return [width * height, over];
  });
  // The smaller box stays on top, so that it can be reached inside a larger one.
  $("frame").append(...places.sort((a, b) => b[0] - a[0]).map(([, over]) => over));
}
$("detect").addEventListener("click", guarded(findPeople));

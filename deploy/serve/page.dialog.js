// One match, large: its picture, the whole frame with its box, the recording at that second, and
// all that is known of it. Escape closes it, and the focus goes back to where it was.

import { may, picture, post, state } from "./page.api.js";
import { say, searchWith, verdict } from "./page.cards.js";
import { $, guarded, local, make, position } from "./page.dom.js";

const dialog = $("dialog");
let shown = null; // the match
let among = []; // the matches that Previous and Next lead through
let turn = 0;

function open(match, matches) {
  shown = match;
  among = matches;
  const place = among.indexOf(match);
  $("dialog-title").textContent = `Match ${match.rank}${match.person ? ` · ${match.person}` : ""}`;
  $("earlier").disabled = place <= 0;
  $("later").disabled = place >= among.length - 1;
  $("facts").replaceChildren(...facts(match).flatMap(([name, words, className = ""]) =>
    [make("dt", { text: name }), make("dd", { text: words, className })]));
  const add = make("button", {
    type: "button", className: "quiet", text: "Add to the query", hidden: !may("search"),
    on: { click: () => leave("add-match") },
  });
  $("dialog-acts").replaceChildren(verdict(match), searchWith(match), add);
  const kinds = { picture: true, frame: match.has_frame, video: match.has_video };
  for (const button of $("kinds").children) button.hidden = !kinds[button.dataset.kind];
  $("kinds").hidden = !match.has_frame && !match.has_video;
  look("picture");
  if (!dialog.open) dialog.showModal();
  else if (!dialog.contains(document.activeElement) || !document.activeElement.checkVisibility()) $("close").focus();
}

function leave(kind) {
  const match = shown;
  dialog.close();
  document.dispatchEvent(new CustomEvent(kind, { detail: { match } }));
}

function facts(match) {
  const found = [["Limit", match.within ? "within" : "beyond", match.within ? "within" : "beyond"],
    ["Distance", match.distance.toFixed(4)]];
  if (match.person) found.push(["Person", match.person]);
  if (match.camera) found.push(["Camera", match.camera]);
  if (match.time) found.push(["Time", local(match.time)]);
  if (match.seconds !== null) found.push(["In the video", `${position(match.seconds)}, frame ${match.frame}`]);
  if (match.track !== null && match.track !== undefined) found.push(["Track", String(match.track)]);
  if (match.run) found.push(["Run", match.run]);
  if (match.box) found.push(["Box", match.box.join(", ")]);
  found.push(["Source", match.source], ["Image", match.id]);
  return found;
}

const look = guarded(async (kind) => {
  const mine = ++turn;
  const match = shown;
  for (const button of $("kinds").children) button.setAttribute("aria-pressed", button.dataset.kind === kind);
  $("view").replaceChildren(make("p", { className: "faint", text: "…" }));
  const show = { picture: person, frame, video }[kind];
  const part = await show(match).catch((error) => {
    if (mine !== turn) return null;
    $("view").replaceChildren(make("p", { className: "faint", text: error.message }));
    return null;
  });
  if (part && mine === turn) $("view").replaceChildren(part);
});

async function person(match) {
  return make("img", { alt: `Match ${match.rank}`, src: await picture(`api/picture/${match.id}`) });
}

/** The frame with the match's box, which is in the frame's pixels. */
async function frame(match) {
  const image = make("img", { alt: `Whole frame of match ${match.rank}`,
    src: await picture(`api/frame/${match.id}`) });
  await image.decode();
  const part = make("div", { className: "whole" }, image);
  part.style.setProperty("--ratio", image.naturalWidth / image.naturalHeight);
  if (match.box) {
    const [left, top, width, height] = match.box;
    const box = make("i", { className: "box" });
    const percent = (value, most) => `${(100 * value) / most}%`;
    Object.assign(box.style, {
      left: percent(left, image.naturalWidth), top: percent(top, image.naturalHeight),
      width: percent(width, image.naturalWidth), height: percent(height, image.naturalHeight),
    });
    part.append(box);
  }
  return part;
}

/** The recording, which starts at the match's second; its address is a ticket without the token. */
async function video(match) {
  const found = await (await post(`api/video/${match.id}`, {})).json();
  const player = make("video", { controls: true, muted: true, playsInline: true, src: found.url });
  player.setAttribute("aria-label", `Recording of match ${match.rank}`);
  player.addEventListener("loadedmetadata", () => { player.currentTime = found.seconds; }, { once: true });
  player.addEventListener("error", () => {
    player.replaceWith(make("p", { className: "faint", text: "This browser cannot play the recording." }));
  });
  return player;
}

function step(by) {
  const next = among[among.indexOf(shown) + by];
  if (!next) return;
  const button = by < 0 ? $("earlier") : $("later");
  open(next, among);
  if (button.disabled) $("close").focus();
}

document.addEventListener("open-match", ({ detail }) => {
  open(detail.match, detail.among || state.matches);
});
document.addEventListener("search-with", () => dialog.close());
document.addEventListener("locked", () => dialog.close());
$("kinds").addEventListener("click", (event) => {
  if (event.target.dataset.kind) look(event.target.dataset.kind);
});
$("earlier").addEventListener("click", () => step(-1));
$("later").addEventListener("click", () => step(1));
$("close").addEventListener("click", () => dialog.close());
dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
dialog.addEventListener("close", () => { turn++; $("view").replaceChildren(); }); // ends a video
dialog.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("video")) return;
  const verdicts = { s: true, d: false, u: null };
  const steps = { arrowleft: -1, arrowright: 1 };
  const key = event.key.toLowerCase();
  if (key in verdicts) say(shown, verdicts[key]);
  else if (key in steps) step(steps[key]);
  else return;
  event.preventDefault();
});

// Matches grouped by person or by track, each group with a time line: cameras as rows, time as
// axis, and each mark opens its match.

import { brief, counted, make } from "./page.dom.js";

const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
const STEPS = [1, 5, 15, 30].map((n) => n * SECOND).concat(
  [1, 2, 5, 10, 20, 30].map((n) => n * MINUTE), [1, 2, 3, 6, 12].map((n) => n * HOUR),
  [1, 2, 7, 14, 30, 60, 180, 365, 730, 3650].map((n) => n * DAY));
const MOST_TICKS = 4;
const LEAST_SPAN = 10 * SECOND;
const MARKS = 24; // places for marks in a row; images nearer to each other share one

/** [{name, matches}] in the order of their nearest match; the unnamed come last. */
export function groupsOf(matches, view) {
  const groups = new Map();
  for (const match of matches) {
    const [key, name] = view === "person" ? person(match) : track(match);
    if (!groups.has(key)) groups.set(key, { name, known: key !== "", matches: [] });
    groups.get(key).matches.push(match);
  }
  return [...groups.values()].sort((a, b) => b.known - a.known || a.matches[0].rank - b.matches[0].rank);
}

function person(match) {
  return match.person ? [match.person, match.person] : ["", "No name"];
}

function track(match) {
  if (match.track === null || match.track === undefined) return ["", "Not from a track"];
  const name = `Track ${match.track}${match.camera ? ` of ${match.camera}` : ""}`;
  return [JSON.stringify([match.run, match.camera, match.track]), name];
}

/** First and last time of the matches in milliseconds, with room at both ends; null without one. */
export function spanOf(matches) {
  const times = matches.filter((match) => match.time).map((match) => Date.parse(match.time));
  if (!times.length) return null;
  const first = Math.min(...times);
  const last = Math.max(...times);
  const room = Math.max(LEAST_SPAN, last - first) * 0.04;
  return { first: first - room, last: Math.max(last, first + LEAST_SPAN) + room };
}

/** When and where a group was seen; null if no image has a time. */
export function timeLine(group, span) {
  const timed = group.matches.filter((match) => match.time);
  if (!span || !timed.length) return null;
  const cameras = [...new Set(timed.map((match) => match.camera || ""))].sort();
  const rows = cameras.map((camera) => {
    const marks = marksOf(timed.filter((match) => (match.camera || "") === camera), span);
    return make("div", { className: "line-row" },
      make("span", { className: "line-camera", text: camera || "no camera", title: camera }),
      make("div", { className: "line" }, ...ticks(span).map(([share]) => at("i", share)), ...marks));
  });
  const axis = make("div", { className: "line-row axis" }, make("span"),
    make("div", { className: "line" }, ...ticks(span).map(([share, words]) => at("small", share, words))));
  axis.setAttribute("aria-hidden", "true");
  const line = make("div", { className: "time-line", label: `Time line: ${group.name}` }, ...rows, axis);
  line.setAttribute("role", "group");
  return line;
}

function at(tag, share, text = "") {
  const part = make(tag, { text });
  part.style.left = `${100 * share}%`;
  return part;
}

/** A mark for each place of a row that has images; the nearest match stands for its place. */
function marksOf(matches, { first, last }) {
  const places = new Map();
  for (const match of matches) {
    const place = Math.round((Date.parse(match.time) - first) / (last - first) * MARKS);
    if (!places.has(place)) places.set(place, []);
    places.get(place).push(match);
  }
  return [...places].sort(([a], [b]) => a - b).map(([, here]) => {
    const words = here.length > 1 ? `${counted(here.length, "image")}, ` : "";
    const mark = at("button", (Date.parse(here[0].time) - first) / (last - first));
    mark.type = "button";
    mark.className = "mark";
    mark.dataset.within = here[0].within;
    mark.append(make("span", { text: here.length > 1 ? here.length : "" }));
    const name = `match ${here[0].rank}, ${brief(here[0].time)}`;
    mark.setAttribute("aria-label", `${words}${name}`);
    mark.title = `${words}${name}`;
    mark.addEventListener("click", () => {
      document.dispatchEvent(new CustomEvent("open-match", { detail: { match: here[0], among: here } }));
    });
    return mark;
  });
}

/** [share of the axis, words], at round times of this clock. */
function ticks({ first, last }) {
  const step = STEPS.find((one) => (last - first) / one <= MOST_TICKS) || STEPS.at(-1);
  const zone = new Date(first).getTimezoneOffset() * MINUTE;
  const found = [];
  for (let time = Math.ceil((first - zone) / step) * step + zone; time <= last; time += step) {
    found.push([(time - first) / (last - first), tickWords(time, step, last - first)]);
  }
  return found;
}

function tickWords(time, step, span) {
  const clock = { hour: "2-digit", minute: "2-digit", hourCycle: "h23" };
  if (step < MINUTE) clock.second = "2-digit";
  const day = { day: "numeric", month: "short" };
  const asked = step >= DAY ? day : span > DAY ? { ...day, ...clock } : clock;
  return new Date(time).toLocaleString(undefined, asked);
}

// A match as a card, and the verdict on it: same, different, or taken back.

import { may, picture, post, state } from "./page.api.js";
import { $, brief, guarded, make, position } from "./page.dom.js";

/** What a screen reader says of a match. */
export function nameOf(match) {
  const parts = [`match ${match.rank}`, match.person, match.camera && `camera ${match.camera}`,
    match.time && brief(match.time)];
  return parts.filter(Boolean).join(", ");
}

export function card(match) {
  const item = make("li", { className: "card", data: { id: match.id, within: match.within } });
  const line = (words, className = "") => make("p", { text: words, className });
  const open = make("button", {
    type: "button", className: "picture", label: `Open ${nameOf(match)}`, text: "…",
    on: { click: () => document.dispatchEvent(new CustomEvent("open-match", { detail: { match } })) },
  });
  lazy(open, match);
  const head = make("p", { className: "head" },
    make("b", { text: match.rank }), make("span", { className: "name", text: match.person || "" }),
    make("span", { className: "distance", text: match.distance.toFixed(3), title: "distance" }));
  const place = [match.camera, match.time && brief(match.time)].filter(Boolean).join(" · ");
  item.append(open, head);
  if (place) item.append(line(place, "place"));
  if (!match.time && match.seconds !== null) item.append(line(`at ${position(match.seconds)}`, "place"));
  if (!match.within) item.append(line("beyond the limit", "beyond"));
  const said = verdict(match);
  item.append(said, searchWith(match), choice(match));
  show(said, match);
  return item;
}

export function searchWith(match) {
  return make("button", {
    type: "button", className: "quiet with", text: "Search with this one",
    label: `Search with this one: match ${match.rank}`, hidden: !may("search"),
    on: { click: () => document.dispatchEvent(new CustomEvent("search-with", { detail: { match } })) },
  });
}

function choice(match) {
  const box = make("input", { type: "checkbox", checked: state.chosen.has(match.id),
    label: `Evidence: match ${match.rank}`, data: { chosen: match.id } });
  box.addEventListener("change", () => {
    document.dispatchEvent(new CustomEvent("choose", { detail: { match, chosen: box.checked } }));
  });
  return make("label", { className: "check evidence" }, box, "Evidence");
}

const seen = new IntersectionObserver((places) => {
  for (const { isIntersecting, target } of places) {
    if (!isIntersecting) continue;
    seen.unobserve(target);
    target.load();
  }
}, { rootMargin: "400px" });

const AGAIN_MS = [500, 2000, 8000]; // waits before a busy server is asked for a picture again

/** Load the picture when it is nearly in view. */
function lazy(holder, match) {
  const waits = [...AGAIN_MS];
  holder.load = async () => {
    try {
      const image = make("img", { alt: "", src: await picture(`api/picture/${match.id}`) });
      holder.replaceChildren(image);
    } catch (error) {
      const again = error.passing && holder.isConnected && waits.length > 0;
      if (again) setTimeout(holder.load, waits.shift());
      else holder.textContent = "no picture";
    }
  };
  seen.observe(holder);
}

/** The buttons of a verdict; every place that shows the same match follows. */
export function verdict(match) {
  const button = (same, words, kind) => make("button", {
    type: "button", className: kind, text: words,
    label: `${words} ${same ? "as" : "from"} the query: match ${match.rank}`,
    on: { click: () => say(match, match.confirmed === same ? null : same) },
  });
  const undo = make("button", { type: "button", className: "undo link", text: "Undo",
    label: `Undo the verdict on match ${match.rank}`, on: { click: () => say(match, null) } });
  const part = make("div", { className: "verdict", data: { verdict: match.id }, hidden: !may("confirm") },
    button(true, "Same", "yes"), button(false, "Different", "no"),
    make("p", { className: "by" }, make("span"), undo));
  show(part, match);
  return part;
}

function show(part, match) {
  const { confirmed, confirmed_by: by } = match;
  part.querySelector(".yes").setAttribute("aria-pressed", confirmed === true);
  part.querySelector(".no").setAttribute("aria-pressed", confirmed === false);
  const undo = part.querySelector(".undo");
  if (confirmed === null && undo === document.activeElement) part.querySelector(".yes").focus();
  part.querySelector(".by").hidden = confirmed === null;
  part.querySelector(".by span").textContent = by ? `said by ${by}` : "";
  const item = part.closest(".card");
  if (item) item.dataset.said = confirmed === true ? "same" : confirmed === false ? "different" : "";
}

/** Keep a verdict (null takes it back) and show it wherever the match is shown. */
export const say = guarded(async (match, same) => {
  if (!may("confirm")) return;
  await post("api/confirm", { query: state.query, id: match.id, same });
  match.confirmed = same;
  match.confirmed_by = same === null ? null : state.gallery.user || null;
  showVerdict(match);
});

export function showVerdict(match) {
  for (const part of document.querySelectorAll(`[data-verdict="${CSS.escape(match.id)}"]`)) show(part, match);
  document.dispatchEvent(new Event("verdict"));
}

/** S, D and U say what the buttons say; arrows lead to the next match. */
$("matches").addEventListener("keydown", (event) => {
  const item = event.target.closest(".card");
  if (!item || event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input")) return;
  const match = state.matches.find((one) => one.id === item.dataset.id);
  const key = event.key.toLowerCase();
  const verdicts = { s: true, d: false, u: null };
  if (key in verdicts) say(match, verdicts[key]);
  else if (key === "arrowright" || key === "arrowleft") {
    const cards = [...$("matches").querySelectorAll(".card")];
    const next = cards[cards.indexOf(item) + (key === "arrowright" ? 1 : -1)];
    next?.querySelector(".picture").focus();
  } else return;
  event.preventDefault();
});


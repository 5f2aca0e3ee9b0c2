// A search and its matches: as a list that is parted at the limit, or in groups.

import { MAX_MATCHES, may, post, state } from "./page.api.js";
import { card } from "./page.cards.js";
import { $, brief, counted, guarded, make, trouble } from "./page.dom.js";
import { groupsOf, spanOf, timeLine } from "./page.groups.js";
import { describeQueries, forgetHashes, hashes, matchIds } from "./page.query.js";

let turn = 0; // of searches: an answer to an older one is ignored

/** The number of matches to ask for; what cannot be is set right in the field, with a word. */
function count() {
  const field = $("count");
  const asked = Math.round(Number(field.value));
  const given = field.value.trim() !== "" && Number.isFinite(asked);
  const right = given ? Math.min(MAX_MATCHES, Math.max(1, asked)) : Number(field.defaultValue);
  $("count-words").textContent = right === Number(field.value) ? "" : `From 1 to ${MAX_MATCHES} matches are shown.`;
  field.value = right;
  return right;
}

function asked() {
  const time = (id) => ($(id).value ? new Date($(id).value).toISOString() : null);
  return {
    queries: hashes(), ids: matchIds(), learn: state.learn, k: count(),
    show_different: state.learn && $("show-different").firstElementChild.checked,
    cameras: [...$("cameras").querySelectorAll("input:checked")].map((choice) => choice.value),
    people: $("person").value.trim() ? [$("person").value.trim()] : [],
    since: time("since"), until: time("until"),
  };
}

async function answered() {
  await describeQueries();
  try {
    return await post("api/search", asked());
  } catch (error) {
    if (error.status !== 410) throw error;
    forgetHashes(error.body.gone || []);
    await describeQueries();
    return post("api/search", asked());
  }
}

/** Search with all queries. What goes wrong leaves the matches that are shown as they are. */
export const search = guarded(async () => {
  if (!state.queries.length) return;
  const mine = ++turn;
  const before = $("words").textContent;
  $("words").textContent = "Searching …";
  $("search").disabled = true;
  try {
    const found = await (await answered()).json();
    if (mine !== turn) return;
    Object.assign(state, { query: found.query, limit: found.limit });
    state.matches = found.matches.map((match, index) => ({ ...match, id: String(match.id), rank: index + 1 }));
    show();
    $("words").textContent = words(found);
    trouble(found.left_out || "");
  } catch (error) {
    if (mine !== turn) return;
    $("words").textContent = before;
    throw error;
  } finally {
    if (mine === turn) $("search").disabled = false;
  }
});

function words(found) {
  const number = found.matches.length;
  if (!number) return "Nothing found. Is a filter set?";
  const used = found.queries > 1 ? ` to ${found.queries} query images` : "";
  return `${counted(number, "nearest image")}${used}, in ${(1000 * found.seconds).toFixed(0)} ms`;
}

/** Forget the matches. */
export function clearResults() {
  turn++;
  Object.assign(state, { query: "", matches: [], limit: null, learn: false });
  $("words").textContent = "The nearest images appear here, nearest first.";
  $("search").disabled = false;
  show();
}

export function show() {
  const { matches, view, limit } = state;
  const any = matches.length > 0;
  $("bar").hidden = !any && !state.learn;
  $("keys").hidden = !any || !may("confirm");
  $("choosing").hidden = !may("export");
  $("limit").textContent = any ? `Within the limit: a distance of ${limit.words}.` : "";
  for (const button of $("views").children) button.setAttribute("aria-pressed", button.dataset.view === view);
  $("matches").replaceChildren(...(view === "list" ? parted(matches) : grouped(matches, view)));
  showLearning();
}

function cards(matches, className = "cards") {
  return make("ol", { className }, ...matches.map(card));
}

/** Within the limit, then beyond it. */
function parted(matches) {
  const within = matches.filter((match) => match.within);
  const beyond = matches.filter((match) => !match.within);
  if (!matches.length) return [];
  const parts = within.length
    ? [make("h3", { className: "within", text: `Within the limit (${within.length})` }), cards(within, "cards parted")]
    : [make("p", { className: "no-match", text: "No match is within the limit: the person may not be in the gallery." })];
  if (beyond.length) {
    parts.push(make("h3", { className: "beyond", text: `Beyond the limit (${beyond.length})` }),
      make("p", { className: "faint", text: "Probably other people." }), cards(beyond, "cards parted"));
  }
  return parts;
}

function grouped(matches, view) {
  const span = spanOf(matches);
  return groupsOf(matches, view).map((group) => {
    const within = group.matches.filter((match) => match.within).length;
    const facts = [counted(group.matches.length, "image"), `${within} within the limit`,
      `nearest ${group.matches[0].distance.toFixed(3)}`, when(group.matches)].filter(Boolean);
    const parts = [make("h3", { text: group.name }),
      make("p", { className: "faint", text: facts.join(" · ") }),
      timeLine(group, span), cards(group.matches)].filter(Boolean);
    return make("section", { className: "group", label: group.name }, ...parts);
  });
}

function when(matches) {
  const times = matches.map((match) => match.time).filter(Boolean).sort();
  if (!times.length) return "";
  const [first, last] = [times[0], times.at(-1)];
  return first === last ? brief(first) : `${brief(first)} to ${brief(last)}`;
}

/** The buttons that let confirmed images join the query, or leave it. */
export function showLearning() {
  const confirmed = state.matches.filter((match) => match.confirmed === true).length;
  $("learn").hidden = !confirmed || !state.query;
  $("learn").textContent = `Search again with ${counted(confirmed, "confirmed image")}`;
  $("unlearn").hidden = $("show-different").hidden = !state.learn;
}
document.addEventListener("verdict", showLearning);

$("learn").addEventListener("click", () => { state.learn = true; search(); });
$("unlearn").addEventListener("click", () => {
  state.learn = false;
  $("found-title").focus();
  search();
});
$("show-different").addEventListener("change", () => search());
$("views").addEventListener("click", (event) => {
  if (!event.target.dataset.view) return;
  state.view = event.target.dataset.view;
  show();
});

// The page's door and its listeners: from an image to a search.

import { forgetPictures, may, state } from "./page.api.js";
import "./page.dialog.js";
import { $, brief, counted, guarded, make, trouble } from "./page.dom.js";
import { clearEvidence } from "./page.evidence.js";
import { addQuery, clearQueries, galleryOf, queryFromFile, queryFromMatch, restoreQueries } from "./page.query.js";
import { clearResults, search, show } from "./page.results.js";
import { findPeople, isFrame, showStage } from "./page.stage.js";

const MOST_NAMES = 5000;
const narrow = matchMedia("(max-width: 52rem)"); // one column, as in the style sheet

function showDoor() {
  state.gallery = null;
  $("door").hidden = false;
  $("room").hidden = $("session").hidden = true;
  $("about").textContent = "This gallery needs a token.";
  $("token").focus();
}
document.addEventListener("locked", showDoor);

const open = guarded(async () => {
  const found = await galleryOf().catch((error) => {
    if (!state.gallery) showDoor(); // another token may do
    throw error;
  });
  if (state.token) sessionStorage.setItem("token", state.token);
  state.gallery = found;
  $("token").value = "";
  $("door").hidden = true;
  $("room").hidden = false;
  $("session").hidden = !state.token && !found.user;
  $("leave").hidden = !state.token;
  $("user").textContent = found.user && found.user !== "token" ? `Signed in as ${found.user}` : "";
  const span = found.first ? ` · ${brief(found.first)} to ${brief(found.last)}` : "";
  $("about").textContent = `${found.gallery} · ${counted(found.images, "image")} · ` +
    `${counted(found.cameras.length, "camera")} · ${counted(found.people.length, "named person", "named people")}${span}`;
  trouble(found.left_out || "");
  const chosen = new Set([...$("cameras").querySelectorAll("input:checked")].map((one) => one.value));
  $("camera-field").hidden = !found.cameras.length;
  $("cameras").replaceChildren(...found.cameras.map((name) => make("label", { className: "check" },
    make("input", { type: "checkbox", value: name, checked: chosen.has(name) }), name)));
  $("names").replaceChildren(...found.people.slice(0, MOST_NAMES).map((name) => make("option", { value: name })));
  if (!may("search")) throw new Error("This token may not search.");
  if (!state.queries.length) await restoreQueries();
  if (state.queries.length) await search();
});

/** Files as queries. In a frame the people are found first, where the server has a detector. */
const take = guarded(async (files) => {
  let choose = false;
  const given = [...files];
  for (const file of given) {
    const query = await queryFromFile(file);
    addQuery(query);
    $("search").focus({ preventScroll: true });
    if (given.length === 1 && state.gallery.people_detector && isFrame(query)) choose = await findPeople();
    if (choose && !state.matches.length) $("words").textContent = "Choose a person in the frame.";
  }
  if (given.length && !choose) await search();
});

const formers = []; // the queries before "search with this one"

document.addEventListener("search-with", guarded(async ({ detail }) => {
  const query = await queryFromMatch(detail.match);
  formers.push(state.queries);
  state.queries = [];
  state.learn = false;
  addQuery(query);
  $("found-title").focus();
  await search();
}));
document.addEventListener("add-match", guarded(async ({ detail }) => {
  addQuery(await queryFromMatch(detail.match));
  await search();
}));
$("former").addEventListener("click", () => {
  state.queries = formers.pop();
  state.current = state.queries.length - 1;
  state.learn = false;
  document.dispatchEvent(new Event("queries"));
  $("search").focus();
  search();
});

document.addEventListener("queries", () => {
  $("former").hidden = !formers.length;
  showStage();
  if (!state.queries.length) clearResults();
});
document.addEventListener("search", () => search());

$("clear").addEventListener("click", () => {
  formers.length = 0;
  clearQueries();
  clearEvidence();
  forgetPictures();
  trouble("");
  $("choose").focus();
});

// A file may be dropped anywhere: beside the zone the browser would leave the page for it.
for (const [kind, over] of [["dragenter", true], ["dragover", true], ["dragleave", false], ["drop", false]]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    $("drop").classList.toggle("over", over);
  });
}
document.addEventListener("drop", (event) => {
  if (!$("room").hidden) take(event.dataTransfer.files);
});
for (const id of ["choose", "add"]) $(id).addEventListener("click", () => $("file").click());
$("file").addEventListener("change", async () => {
  await take($("file").files);
  $("file").value = ""; // so that the same file can be chosen again
});
document.addEventListener("paste", (event) => {
  if (!$("room").hidden && event.clipboardData.files.length) take(event.clipboardData.files);
});
$("search").addEventListener("click", async () => {
  await search();
  if (narrow.matches) $("found").scrollIntoView();
});
$("filter").addEventListener("change", () => search());

function enter(token) {
  state.token = token;
  return open();
}
$("door").addEventListener("submit", (event) => {
  event.preventDefault();
  enter($("token").value.trim());
});
$("leave").addEventListener("click", () => {
  sessionStorage.clear();
  location.reload();
});

/** A link may hold the token after the #, which no server sees: http://host:8080/#token=... */
function tokenOfLink() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given) history.replaceState(null, "", location.pathname);
  return given;
}
window.addEventListener("hashchange", () => {
  const given = tokenOfLink();
  if (given) enter(given);
});
$("filter").open = !narrow.matches;
show();
enter(tokenOfLink() || sessionStorage.getItem("token") || "");

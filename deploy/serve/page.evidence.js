// Matches that are chosen as evidence, with a note, and the ZIP file of them; all verdicts as CSV.

import { ask, post, state } from "./page.api.js";
import { $, counted, guarded } from "./page.dom.js";
import { hashes } from "./page.query.js";

const MOST = 500; // the server takes no more

function show() {
  const number = state.chosen.size;
  $("evidence-words").textContent = number
    ? `${counted(number, "image")} chosen.` : "Choose the images that go into the file.";
  $("download").disabled = number === 0;
  for (const box of document.querySelectorAll("[data-chosen]")) box.checked = state.chosen.has(box.dataset.chosen);
}

/** Forget what was chosen. */
export function clearEvidence() {
  state.chosen.clear();
  open(false);
}

function open(wanted) {
  $("evidence").hidden = !wanted;
  $("choosing").setAttribute("aria-expanded", wanted);
  document.body.classList.toggle("choosing", wanted);
  show();
}

$("choosing").addEventListener("click", () => open($("evidence").hidden));
document.addEventListener("choose", ({ detail }) => {
  if (detail.chosen) state.chosen.set(detail.match.id, detail.match);
  else state.chosen.delete(detail.match.id);
  show();
});
$("all-within").addEventListener("click", () => {
  for (const match of state.matches) if (match.within) state.chosen.set(match.id, match);
  show();
});
$("none").addEventListener("click", () => { state.chosen.clear(); show(); });

$("evidence").addEventListener("submit", guarded(async (event) => {
  event.preventDefault();
  if (state.chosen.size > MOST) throw new Error(`${MOST} images are the most of one file.`);
  $("download").disabled = true;
  try {
    const answer = await post("api/evidence", {
      queries: hashes(), ids: [...state.chosen.keys()], note: $("note").value,
      query_pictures: $("query-pictures").checked,
    });
    save(await answer.blob(), fileName(answer.headers.get("Content-Disposition"), "evidence", "zip"));
    $("evidence-words").textContent = `${counted(state.chosen.size, "image")} downloaded.`;
  } finally {
    $("download").disabled = state.chosen.size === 0;
  }
}));

$("verdicts").addEventListener("click", guarded(async () => {
  const answer = await ask("api/confirmed?format=csv");
  save(await answer.blob(), fileName(answer.headers.get("Content-Disposition"), "verdicts", "csv"));
}));

function fileName(said, kind, suffix) {
  const found = /filename="?([\w.-]+)"?/.exec(said || "");
  return found ? found[1] : `${kind}-${new Date().toISOString().slice(0, 19).replace(/:/g, "-")}.${suffix}`;
}

function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

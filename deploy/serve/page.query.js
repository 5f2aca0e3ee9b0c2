// The query images: files with their boxes, and images of the gallery. They stay in this tab
// only, over a reload too, until it is closed or they are cleared.

import { ask, MAX_BYTES, picture, send, state } from "./page.api.js";

export const MAX_QUERIES = 16;
const KEY = "queries";
const MAX_KEPT = 4_000_000; // characters; a tab may keep about five million
const PREVIEW_PIXELS = 480;

let turns = 0;

/** A file as a query: described by the server once its hash is asked for. */
export async function queryFromFile(file) {
  if (file.size > MAX_BYTES) throw new Error("This file is larger than 32 MB; send a smaller image.");
  const image = await createImageBitmap(file).catch(() => null);
  if (!image) throw new Error("The browser cannot show this file as an image.");
  return { kind: "file", file, image, box: null, hash: "", name: file.name || "pasted image" };
}

/** An image of the gallery as a query. */
export async function queryFromMatch(match) {
  const image = await imageFrom(await picture(`api/picture/${match.id}`)).catch(() => null);
  const name = match.person || match.camera || "image of the gallery";
  return { kind: "match", id: match.id, image, box: null, name };
}

export function addQuery(query) {
  if (state.queries.length >= MAX_QUERIES) {
    throw new Error(`${MAX_QUERIES} query images are the most; remove one first.`);
  }
  state.queries.push(query);
  state.current = state.queries.length - 1;
  changed();
}

export function removeQuery(query) {
  state.queries = state.queries.filter((one) => one !== query);
  state.current = Math.min(state.current, state.queries.length - 1);
  changed();
}

export function setBox(query, box) {
  Object.assign(query, { box, hash: "" });
  changed();
}

export function clearQueries() {
  state.queries = [];
  state.current = -1;
  changed();
}

function changed() {
  keep();
  document.dispatchEvent(new Event("queries"));
}

/** Ask the server to describe the files that it does not hold. Raises Error if one is gone. */
export async function describeQueries() {
  for (const [index, query] of state.queries.entries()) {
    if (query.kind !== "file" || query.hash) continue;
    if (!query.file) {
      throw new Error(`The server no longer holds query ${index + 1}: remove it and add its image again.`);
    }
    const box = query.box;
    const found = await send(`api/queries${box ? `?box=${box.join(",")}` : ""}`, query.file);
    if (query.box === box) query.hash = found.query;
  }
  keep();
}

export function forgetHashes(gone) {
  for (const query of state.queries) {
    if (!gone.length || gone.includes(query.hash)) query.hash = "";
  }
}

export function hashes() {
  return state.queries.filter((query) => query.kind === "file" && query.hash).map((query) => query.hash);
}

export function matchIds() {
  return state.queries.filter((query) => query.kind === "match").map((query) => query.id);
}

/** Write the queries into the tab's storage: the files themselves as long as they fit. */
async function keep() {
  const turn = ++turns;
  let left = MAX_KEPT;
  const lines = [];
  for (const query of state.queries) {
    const { kind, id, hash, name } = query;
    const line = { kind, id, hash, name, box: query.box || query.kept || null };
    if (query.file && query.file.size * 4 / 3 < left) {
      query.text ||= await textFrom(query.file);
      line.data = query.text;
    } else if (kind === "file") {
      query.preview ||= preview(query.image);
      line.preview = query.preview;
    }
    left -= (line.data || line.preview || "").length;
    lines.push(line);
  }
  if (turn !== turns) return; // a newer list is being written
  try {
    sessionStorage.setItem(KEY, JSON.stringify({ queries: lines, current: state.current }));
  } catch {
    sessionStorage.removeItem(KEY); // full: a reload begins anew
  }
}

/** The queries of before a reload; without any nothing changes. */
export async function restoreQueries() {
  const said = JSON.parse(sessionStorage.getItem(KEY) || "null");
  if (!said) return;
  const found = [];
  for (const { kind, id, box, hash, name, data, preview: small } of said.queries) {
    if (kind === "match") {
      found.push(await queryFromMatch({ id, person: name }));
    } else if (data) {
      const file = blobFrom(data);
      const image = await createImageBitmap(file);
      found.push({ kind, file, image, box, hash, name, text: data });
    } else {
      found.push({ kind, image: await imageFrom(small), box: null, kept: box, hash, name, preview: small });
    }
  }
  state.queries = found;
  state.current = Math.min(said.current, found.length - 1);
  document.dispatchEvent(new Event("queries"));
}

function textFrom(file) {
  return new Promise((done, fail) => {
    const reader = new FileReader();
    reader.addEventListener("load", () => done(reader.result));
    reader.addEventListener("error", () => fail(reader.error));
    reader.readAsDataURL(file);
  });
}

function blobFrom(text) {
  const [head, body] = text.split(",", 2);
  const bytes = Uint8Array.from(atob(body), (letter) => letter.charCodeAt(0));
  return new Blob([bytes], { type: head.slice(5).split(";")[0] });
}

async function imageFrom(url) {
  const image = new Image();
  image.src = url;
  await image.decode();
  return image;
}

function preview(image) {
  const scale = Math.min(1, PREVIEW_PIXELS / Math.max(image.width, image.height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(image.width * scale));
  canvas.height = Math.max(1, Math.round(image.height * scale));
  canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
  return canvas.toDataURL("image/jpeg", 0.8);
}

/** The people whom the server's detector finds in a file, nearest to certain first. */
export async function peopleIn(query) {
  const found = await send("api/people", query.file);
  return found.people.map(({ box, score }) => ({ box: box.map(Math.round), score }));
}

export async function galleryOf() {
  return (await ask("api/gallery")).json();
}

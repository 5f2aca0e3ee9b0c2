// Requests to the server. All paths are relative: the page may stand under any path of a proxy.

export const MAX_BYTES = 32 * 1024 * 1024; // the server refuses more
export const MAX_MATCHES = 200;

/** What the page knows; `matches` are those of the last answer. */
export const state = {
  token: "", gallery: null, queries: [], current: -1,
  query: "", matches: [], limit: null, learn: false, view: "list", chosen: new Map(),
};

/** The server's refusal; `passing` if the same request may succeed a little later. */
class Refused extends Error {
  constructor(status, words, body = {}) {
    super(words);
    Object.assign(this, { status, body, passing: [0, 408, 429, 503].includes(status) });
  }
}

function words(answer, body) {
  const wait = Number(answer.headers.get("Retry-After"));
  const when = wait > 0 ? `; try again in ${wait} s` : "";
  const said = body.error || `the server answered ${answer.status}`;
  return when && !/again/i.test(said) ? `${said.replace(/[.]$/, "")}${when}` : said;
}

export async function ask(path, options = {}) {
  const headers = { ...(options.headers || {}) };
  if (state.token) headers.Authorization = `Bearer ${state.token}`;
  const answer = await fetch(path, { ...options, headers }).catch((error) => {
    if (error.name === "AbortError") throw error;
    throw new Refused(0, "The server cannot be reached.");
  });
  if (answer.ok) return answer;
  const body = await answer.json().catch(() => ({}));
  if (answer.status === 401) {
    document.dispatchEvent(new Event("locked"));
    throw new Refused(401, state.token ? "The token is wrong or no longer valid." : "");
  }
  throw new Refused(answer.status, words(answer, body), body);
}

export async function post(path, body, options = {}) {
  return ask(path, {
    ...options, method: "POST", body: JSON.stringify(body),
    headers: { "Content-Type": "application/json" },
  });
}

export async function send(path, file) {
  return (await ask(path, {
    method: "POST", body: file, headers: { "Content-Type": "application/octet-stream" },
  })).json();
}

export function may(act) {
  return !state.gallery?.may || state.gallery.may.includes(act);
}

const MOST_KEPT = 400;
const kept = new Map(); // path -> promise of a blob's URL, the oldest first

/** A picture as a URL for an image element; it needs the token, so that a plain link would fail. */
export function picture(path) {
  if (!kept.has(path)) {
    const loading = ask(path).then((answer) => answer.blob()).then(URL.createObjectURL);
    loading.catch(() => kept.delete(path));
    kept.set(path, loading);
    if (kept.size > MOST_KEPT) {
      const [oldest, gone] = kept.entries().next().value;
      kept.delete(oldest);
      gone.then(URL.revokeObjectURL, () => {});
    }
  }
  return kept.get(path);
}

export function forgetPictures() {
  for (const loading of kept.values()) loading.then(URL.revokeObjectURL, () => {});
  kept.clear();
}

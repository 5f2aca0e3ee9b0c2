// Elements and times. Names and sources are not trusted: they are only ever set as text.

export const $ = (id) => document.getElementById(id);

/** An element; `text`, `label` (for screen readers), `data` and `on` are set as such. */
export function make(tag, { text, label, data, on, ...properties } = {}, ...children) {
  const part = Object.assign(document.createElement(tag), properties);
  if (text !== undefined) part.textContent = text;
  if (label) part.setAttribute("aria-label", label);
  Object.assign(part.dataset, data);
  for (const [kind, work] of Object.entries(on || {})) part.addEventListener(kind, work);
  part.append(...children.filter((child) => child !== null));
  return part;
}

const BRIEF = { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit",
  second: "2-digit", hourCycle: "h23" };
const WHOLE = { ...BRIEF, year: "numeric", timeZoneName: "short" };

export function local(time) {
  return new Date(time).toLocaleString(undefined, WHOLE);
}

/** Without the year where it is this one. */
export function brief(time) {
  const date = new Date(time);
  const year = date.getFullYear() === new Date().getFullYear() ? {} : { year: "numeric", timeZoneName: "short" };
  return date.toLocaleString(undefined, { ...BRIEF, ...year });
}

/** A place in a recording: minutes and seconds, with hours where there are any. */
export function position(seconds) {
  const whole = Math.floor(seconds);
  const two = (number) => String(number).padStart(2, "0");
  const hours = Math.floor(whole / 3600);
  return `${hours ? `${hours}:` : ""}${two(Math.floor(whole / 60) % 60)}:${two(whole % 60)}`;
}

export function counted(number, one, many = `${one}s`) {
  return `${number.toLocaleString("en")} ${number === 1 ? one : many}`;
}

/** One line at the foot of the page; with `retry` there is a button that tries again. */
export function trouble(words, retry = null) {
  $("trouble-words").textContent = words;
  $("trouble").hidden = !words;
  $("again").hidden = !retry;
  $("again").onclick = retry && (() => { trouble(""); retry(); });
}
$("dismiss").addEventListener("click", () => trouble(""));

/** The work as a listener that shows what goes wrong in one line. */
export function guarded(work) {
  const guard = async (...details) => {
    trouble("");
    try {
      await work(...details);
    } catch (error) {
      if (error.name === "AbortError") return;
      trouble(error.message, error.passing ? () => guard(...details) : null);
    }
  };
  return guard;
}

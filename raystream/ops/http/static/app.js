// The page: which job and section the address names, the list of jobs, keys, light and dark.

import { keepToken, listen, takeToken } from "./api.js";
import { close, form, shown } from "./dialogs.js";
import { h, put } from "./dom.js";
import { JobPage, SECTIONS, status } from "./job.js";
import { lasting, whole } from "./words.js";

const page = document.getElementById("page");
const narrow = matchMedia("(max-width: 640px)");
const theme = sessionStorage.getItem("raystream-theme");
if (theme) document.documentElement.dataset.theme = theme;

let one = null, jobs = new Map(), trouble = null, end = null, waiting = false, at = "";

/** Draw soon, and once however often it is asked for. */
function draw() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => {
    waiting = false;
    put(page, header(), trouble && banner(), h("main", { "data-key": at }, one ? one.draw(narrow.matches) : list()));
    document.title = one ? `${one.name} · raystream` : "raystream";
  });
}

function header() {
  return h("header", null,
    h("a.brand", { href: "#/jobs" }, h("img", { src: "/static/icon.svg", alt: "", width: 22, height: 22 }), "raystream"),
    h("nav", { "aria-label": "where" }, h("a", { href: "#/jobs" }, "Jobs"), one && h("span.crumb", null, one.name)),
    h("button.quiet", { onclick: flip, title: "light or dark (t)" }, "◐"),
    h("button.quiet", { onclick: keys, title: "keys (?)" }, "?"));
}

function banner() {
  const token = trouble.status === 401;
  return h("div.banner", { role: "alert" }, trouble.message, trouble.hint && h("small", null, trouble.hint),
    token && h("form.row", { onsubmit: withToken }, h("input", { name: "token", placeholder: "token", "aria-label": "token", autocomplete: "off" }), h("button", null, "Open")));
}

function withToken(event) {
  event.preventDefault();
  keepToken(new FormData(event.target).get("token").trim());
  go();
}

function list() {
  const rows = [...jobs.values()].sort((a, b) => a.name.localeCompare(b.name));
  if (!rows.length) return h("section.card", null, h("h1", null, "Jobs"), h("p.quiet", null, trouble ? "" : "No job runs that this server knows of."));
  return h("section.card", null, h("h1", null, "Jobs"), h("div.scroll", null, h("table#jobs", null,
    h("thead", null, h("tr", null, ["Job", "State", "Up for", "Restarts", "Rows in"].map((t, i) => h("th", { class: i > 1 ? "number" : "" }, t)))),
    h("tbody", null, rows.map((job) => h("tr", { "data-key": job.name, "data-job": job.name },
      h("td", null, h("a", { href: `#/job/${encodeURIComponent(job.name)}` }, job.name)),
      h("td", null, status(job.status)),
      h("td.number", null, job.uptime_s === null ? "–" : lasting(1e6 * job.uptime_s)),
      h("td.number", null, whole(job.restarts)),
      h("td.number", null, whole(job.operators.filter((o) => !o.inputs.length).reduce((sum, o) => sum + o.rows_out, 0)))))))));
}

/** Go to what the address says. */
function go() {
  takeToken();
  const parts = location.hash.split("/").slice(1).map(decodeURIComponent);
  const name = parts[0] === "job" && parts[1] ? parts[1] : null, section = parts[2] || "graph";
  if (name !== null && one?.name === name && end && !trouble) {
    one.to(section);
  } else {
    end?.();
    one = name === null ? null : new JobPage(name, section, draw);
    jobs = new Map();
    end = listen(name, (job) => {
      if (one) one.told(job);
      else jobs.set(job.name, job);
      draw();
    }, (error) => { trouble = error; draw(); });
  }
  at = one ? `${one.name}/${section}` : "jobs";
  draw();
}

function flip() {
  const dark = getComputedStyle(document.documentElement).colorScheme;
  const is = dark === "dark" || (dark !== "light" && matchMedia("(prefers-color-scheme: dark)").matches);
  document.documentElement.dataset.theme = is ? "light" : "dark";
  sessionStorage.setItem("raystream-theme", document.documentElement.dataset.theme);
}

function keys() {
  const known = [["1 … 6", "sections of a job"], ["j", "all jobs"], ["g", "into the graph"], ["← ↑ → ↓", "from operator to operator"],
    ["Enter", "open an operator"], ["Esc", "close what is open"], ["p", "pause and go on"], ["t", "light or dark"], ["?", "these keys"]];
  form("Keys", h("dl.keys", null, known.flatMap(([key, says]) => [h("dt", null, h("kbd", null, key)), h("dd", null, says)])));
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Escape") return void (shown() ? close() : one?.choose(null));
  if (/^(INPUT|TEXTAREA|SELECT)$/.test(event.target.nodeName) || shown()) return;
  const section = SECTIONS[Number(event.key) - 1];
  if (section && one) location.hash = `#/job/${encodeURIComponent(one.name)}/${section.id}`;
  else if (event.key === "j") location.hash = "#/jobs";
  else if (event.key === "g") document.querySelector(".node")?.focus();
  else if (event.key === "p") one?.pause();
  else if (event.key === "t") flip();
  else if (event.key === "?") keys();
});
window.addEventListener("hashchange", go);
narrow.addEventListener("change", draw);
go();

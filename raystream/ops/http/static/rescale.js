// Other numbers of subtasks: what they may bring, and how earlier changes went.

import { get } from "./api.js";
import { form } from "./dialogs.js";
import { h } from "./dom.js";
import { counted, lasting, moment, percent, perSecond } from "./words.js";

export const rescale = {
  id: "rescale",
  title: "Rescale",
  async load(page) {
    const job = { job: page.name };
    const [rescales, changes, failures] = await Promise.all([
      get("/jobs/{job}/rescales", job), get("/jobs/{job}/changes", job), get("/jobs/{job}/exceptions", job)]);
    page.data.rescales = rescales;
    page.data.pauses = pauses(changes.changes, failures.exceptions);
    for (const [name, size] of Object.entries(page.wanted ?? {})) if (rescales.sizes[name] === size) delete page.wanted[name];
  },
  draw(page) {
    const wanted = page.wanted ??= {}, running = page.data.rescales?.under_way;
    const set = (one, size) => { wanted[one.name] = Math.max(1, size); if (size === one.parallelism) delete wanted[one.name]; page.redraw(); };
    const changed = page.job.operators.filter((one) => wanted[one.name] && wanted[one.name] !== one.parallelism);
    return [
      h("div.scroll", null, h("table.stacked#sizes", null, h("thead", null, h("tr", null, h("th", null, "Operator"), h("th", null, "Subtasks"), h("th", null, "What it may bring"))),
        h("tbody", null, page.job.operators.map((one) => {
          const size = wanted[one.name] ?? one.parallelism;
          return h("tr", { "data-key": one.name, "data-operator": one.name }, h("td", null, one.name),
            h("td", null, h("span.stepper", null,
              h("button", { onclick: () => set(one, size - 1), "aria-label": `fewer of ${one.name}`, disabled: size <= 1 }, "−"),
              h("b", { "aria-live": "polite" }, size === one.parallelism ? String(size) : `${one.parallelism} → ${size}`),
              h("button", { onclick: () => set(one, size + 1), "aria-label": `more of ${one.name}` }, "+"))),
            h("td.quiet", null, effect(one, size)));
        })))),
      h("div.row", null, h("button.primary", { disabled: !changed.length || running, onclick: () => apply(page, changed) }, running ? "Rescaling …" : "Rescale"),
        changed.length > 0 && h("button", { onclick: () => { page.wanted = {}; page.redraw(); } }, "As it was")),
      h("h3", null, "Pauses until now"),
      page.data.pauses?.length
        ? h("div.scroll", null, h("table#pauses", null, h("thead", null, h("tr", null, ["When", "Why", "Pause"].map((t) => h("th", null, t)))),
          h("tbody", null, page.data.pauses.slice(0, 60).map((one) => h("tr", { "data-key": one.at_us }, h("td", null, moment(one.at_us)), h("td", null, one.why), h("td", null, one.us === null ? "not over" : lasting(one.us)))))))
        : h("p.quiet", null, "None: it has run as it began."),
    ];
  },
};

function apply(page, changed) {
  const operators = Object.fromEntries(changed.map((one) => [one.name, page.wanted[one.name]]));
  const said = changed.map((one) => h("p", null, h("b", null, `${one.name}: ${one.parallelism} → ${operators[one.name]}. `), effect(one, operators[one.name])));
  form("Rescale?", [said, h("p.quiet", null, "The job pauses for as long as a savepoint and a restart of what changes take.")], "Rescale",
    () => page.change("/jobs/{job}/rescale", { operators }, { doing: "Rescaling", done: (a) => `Rescaled to ${JSON.stringify(a.to)}` }));
}

/** What an operator could take with so many subtasks: rows a second of one that is busy, times as many. */
export function effect(one, size) {
  const rate = one.rows_in_per_s || one.rows_out_per_s, { mean, most } = one.busy_spread;
  if (!rate || mean < 0.01) return "It has almost nothing to do now.";
  const each = rate / (one.parallelism * mean);
  const now = `${perSecond(rate)} now, its subtasks ${percent(mean)} busy`;
  if (size === one.parallelism) return `${now}; they could take about ${perSecond(each * size)}.`;
  const skewed = one.parallelism > 1 && most > 0.5 && most > 1.5 * mean
    ? " Skew: one subtask is far busier than the others, and more of them may not help it." : "";
  return `${now}; ${counted(size, "subtask")} could take about ${perSecond(each * size)}, and would be ${percent(Math.min(1, rate / (each * size)))} busy with what comes now.${skewed}`;
}

const AT_WORK = ["running", "finishing"], OVER = ["finished", "stopped", "failed", "canceled"];

/** From the changes of state, newest first: when it did not run, why, and for how long. */
function pauses(changes, failures) {
  const found = [];
  let began = null;
  for (const one of [...changes].reverse()) {
    if (AT_WORK.includes(one.before) && !AT_WORK.includes(one.after)) began = one;
    if (OVER.includes(one.after)) began = null;
    if (one.after === "running" && began) {
      found.push({ at_us: began.at_us, why: why(began, failures), us: one.at_us - began.at_us });
      began = null;
    }
  }
  if (began) found.push({ at_us: began.at_us, why: why(began, failures), us: null });
  return found.reverse();
}

/** An attempt that ended, and in which nothing broke, was ended to change its size. */
function why(change, failures) {
  const broke = failures.find((one) => one.attempt === change.attempt);
  return broke ? `restarted: ${broke.kind}: ${broke.message}` : "rescaled";
}

// The page of one job: what it is at, its sections, and what may be done to it.

import { get, post } from "./api.js";
import { checkpoints } from "./checkpoints.js";
import { config } from "./config.js";
import { form } from "./dialogs.js";
import { h } from "./dom.js";
import { Drawer } from "./drawer.js";
import { exceptions } from "./exceptions.js";
import { graph } from "./graph.js";
import { rescale } from "./rescale.js";
import { state } from "./state.js";
import { lasting } from "./words.js";

const KEPT = 120;

const picture = {
  id: "graph",
  title: "Graph",
  async load(page) {
    page.data.diagnosis = await get("/jobs/{job}/diagnosis", { job: page.name });
    const shape = JSON.stringify([page.job.attempt, page.job.operators.map((one) => one.parallelism)]);
    if (page.data.shape === shape) return;
    page.data.plan = await get("/jobs/{job}/plan", { job: page.name });
    page.data.config = await get("/jobs/{job}/config", { job: page.name });
    page.data.shape = shape;
  },
  draw(page, narrow) {
    const { plan, config: settings, diagnosis } = page.data, held = diagnosis?.bottleneck;
    return [
      diagnosis && h("div.diagnosis", { class: held ? "held" : "", role: "status" },
        held && h("p", null, h("strong.cause", null, held.cause.replace("_", " ")), held.says),
        diagnosis.watermark.map((says) => h("p", null, h("strong.cause", null, "watermark"), says)),
        !held && !diagnosis.watermark.length && h("p", null, diagnosis.says)),
      h("div.legend", { "aria-hidden": "true" }, ["busy", "backpressured", "idle"].map((name) => h("span", null, h("i", { class: name }), name))),
      graph(page.job, { plan, config: settings, narrow, bottleneck: held?.operator, chosen: page.drawer?.operator, choose: (name) => page.choose(name) }),
    ];
  },
};

export const SECTIONS = [picture, checkpoints, exceptions, rescale, state, config];

/** A state of a job, in its colour. */
export const status = (name) => h("span.status", { class: `is-${name}` }, name);

export class JobPage {
  constructor(name, section, redraw) {
    Object.assign(this, { name, section, redraw, job: null, drawer: null, data: {}, history: new Map() });
    Object.assign(this, { said: null, paused: false, loading: new Set() });
  }

  /** Go to another section. */
  to(section) {
    if (section !== this.section) {
      this.drawer?.end();
      this.drawer = null;
    }
    this.section = section;
    this.said = null;
    this.load();
  }

  /** Take what the feed says. */
  told(job) {
    if (this.paused) return;
    this.job = job;
    for (const one of job.operators) {
      const kept = this.history.get(one.name) ?? [];
      kept.push({ in: one.rows_in_per_s, out: one.rows_out_per_s, busy: one.busy, lag: one.watermark_us === null ? null : Math.max(0, job.at_us - one.watermark_us) });
      this.history.set(one.name, kept.slice(-KEPT));
    }
    this.load();
  }

  /** Let a section, and the drawer, fetch what they show; one request each at a time. */
  load() {
    if (!this.job || this.job.id === null) return;
    for (const one of [this.shown(), this.drawer]) {
      if (!one || this.loading.has(one)) continue;
      this.loading.add(one);
      one.load(this).then(() => { this.missing = null; }, (error) => { this.missing = error; })
        .finally(() => { this.loading.delete(one); this.redraw(); });
    }
  }

  shown() {
    return SECTIONS.find((one) => one.id === this.section) ?? SECTIONS[0];
  }

  choose(operator) {
    const before = this.drawer?.operator;
    this.drawer?.end();
    this.drawer = operator === null ? null : new Drawer(operator, this);
    this.load();
    this.redraw();
    if (operator === null && before) [...document.querySelectorAll(".node")].find((n) => n.dataset.operator === before)?.focus();
  }

  pause() {
    this.paused = !this.paused;
    this.redraw();
  }

  /** Do something to the job, and say how it went. */
  async change(path, body, says) {
    this.said = { text: `${says.doing} …` };
    this.redraw();
    try {
      const answer = await post(path, { job: this.name }, body);
      this.said = { text: says.done(answer), good: true };
    } catch (error) {
      this.said = { text: error.message, hint: error.hint, bad: true };
    }
    this.load();
    this.redraw();
  }

  draw(narrow) {
    const { job } = this;
    if (!job) return h("section.card", null, h("h1", null, this.name), h("p.quiet", null, "Waiting for the job to tell what it is at …"));
    return [
      this.head(job),
      this.said && h("div.said", { role: "status", class: this.said.bad ? "bad" : this.said.good ? "good" : "" }, this.said.text, this.said.hint && h("small", null, this.said.hint)),
      this.missing && h("div.said.bad", null, this.missing.message, h("small", null, this.missing.hint)),
      h("nav.sections", { "aria-label": "sections" }, SECTIONS.map((one) =>
        h("a", { href: `#/job/${encodeURIComponent(this.name)}/${one.id}`, "aria-current": one === this.shown() ? "page" : null }, one.title))),
      h("section.card", { id: this.shown().id, "data-key": this.shown().id, "data-at": job.at_us }, this.shown().draw(this, narrow)),
      this.drawer?.draw(this),
    ];
  }

  head(job) {
    const figure = (name, value) => h("span.figure", null, h("small", null, name), h("b", { "data-figure": name }, value));
    const over = job.over || job.id === null;
    return h("div.head", null,
      h("div", null, h("h1", null, job.name, " ", status(job.status)), h("div.figures", null,
        figure("up for", job.uptime_s === null ? "–" : lasting(1e6 * job.uptime_s)),
        figure("restarts", String(job.restarts ?? "–")), figure("attempt", String(job.attempt ?? "–")),
        figure("id", job.id ?? "–"))),
      h("div.row", null,
        h("button", { onclick: () => this.pause(), "aria-pressed": String(this.paused) }, this.paused ? "Go on" : "Pause"),
        h("button", { onclick: () => this.savepoint(), disabled: over }, "Savepoint"),
        h("button", { onclick: () => { location.hash = `#/job/${encodeURIComponent(this.name)}/rescale`; }, disabled: over }, "Rescale"),
        h("button", { onclick: () => this.stop(), disabled: over }, "Stop"),
        h("button.danger", { onclick: () => this.cancel(), disabled: over }, "Cancel")));
  }

  savepoint() {
    form("Make a savepoint", h("label", null, "Name (may be left out)",
      h("input", { name: "name", pattern: "[A-Za-z0-9_\\-][A-Za-z0-9._\\-]*", maxlength: 100, autocomplete: "off" })), "Make it",
    ({ name }) => this.change("/jobs/{job}/savepoint", name ? { name } : {}, { doing: "Making a savepoint", done: (a) => `Savepoint made: ${a.savepoint}` }));
  }

  stop() {
    form(`Stop ${this.name}?`, [h("p", null, "It makes a savepoint first; what it has written becomes visible."),
      h("label.check", null, h("input", { type: "checkbox", name: "drain" }), "End the input first, as if the sources had (drain)")], "Stop it",
    ({ drain }) => this.change("/jobs/{job}/stop", { drain: drain === "on" }, { doing: "Stopping", done: (a) => `Stopped; savepoint: ${a.savepoint ?? "none"}` }), true);
  }

  cancel() {
    form(`Cancel ${this.name}?`, h("p", null, "It ends where it stands, without a savepoint. What is not committed is dropped."), "Cancel it",
      () => this.change("/jobs/{job}/cancel", {}, { doing: "Canceling", done: () => "Canceled" }), true);
  }
}

// One operator: its lines of the last minutes, its subtasks and their skew, a profile, live rows.

import { get } from "./api.js";
import { bars, flame, shares, spark, tree } from "./charts.js";
import { h } from "./dom.js";
import { fill, lag } from "./graph.js";
import { bytes, counted, lasting, percent, perSecond, whole } from "./words.js";

const ROWS = 60, LIVE = 100;

export class Drawer {
  constructor(operator, page) {
    Object.assign(this, { operator, page, subtasks: null, most: ROWS, profile: null, zoom: null, native: false, live: null, said: null, by: "index", over: false });
  }

  async load(page) {
    this.subtasks = (await get("/jobs/{job}/operators/{operator}/subtasks", { job: page.name, operator: this.operator })).subtasks;
  }

  end() {
    this.over = true;
    this.live = null;
  }

  draw(page) {
    const one = page.job.operators.find((each) => each.name === this.operator);
    const told = (page.data.plan?.chains ?? []).flatMap((c) => c.operators).find((o) => o.name === this.operator);
    return h("aside.drawer", { "aria-label": `operator ${this.operator}`, "data-key": this.operator },
      h("div.row.between", null, h("h2", null, this.operator), h("button.quiet", { onclick: () => page.choose(null), title: "close (Esc)", "aria-label": "close" }, "✕")),
      told && h("p.quiet", null, `${told.verb} ${told.describe}`, told.where && h("code.where", null, told.where)),
      !one ? h("p", null, "The job has no such operator any more.") : [this.figures(one, page), this.lines(page), this.skew(), this.table(), this.profiled(), this.tapped()]);
  }

  figures(one, page) {
    const said = [["rows in", whole(one.rows_in)], ["rows out", whole(one.rows_out)], ["late", whole(one.late_rows)], ["failed", whole(one.failed_rows)],
      ["watermark lag", lag(one, page.job.at_us)], ["queue", `${bytes(one.queued_bytes)} · ${percent(fill(one, page.data.config))}`],
      ...Object.entries(one.counters).map(([name, value]) => [name, whole(value)])];
    return [h("dl.figures", null, said.map(([name, value]) => h("div", null, h("dt", null, name), h("dd", { "data-figure": name }, value)))), shares(one)];
  }

  lines(page) {
    const kept = page.history.get(this.operator) ?? [];
    const now = kept.at(-1);
    const line = (name, of, says) => h("figure", null, h("figcaption", null, name, h("b", null, says(of(now)))), spark(kept.map(of), `${name} of the last ${kept.length} seconds`));
    return now && h("div.sparks", null, line("in", (k) => k.in, perSecond), line("out", (k) => k.out, perSecond), line("busy", (k) => k.busy, percent),
      now.lag !== null && line("lag", (k) => k.lag ?? 0, lasting));
  }

  skew() {
    const rates = (this.subtasks ?? []).map((one) => one.operator?.rows_in_per_s || one.rows_in_per_s);
    if (rates.length < 2) return null;
    const all = rates.reduce((a, b) => a + b, 0), most = Math.max(...rates), first = rates.indexOf(most);
    const says = all ? `subtask ${first} takes ${percent(most / all)} of the rows; even would be ${percent(1 / rates.length)}` : "no rows pass now";
    return h("div", null, h("h3", null, "Skew"), h("p.quiet", null, says), bars(rates, says));
  }

  table() {
    if (!this.subtasks) return h("p.quiet", null, "…");
    const sorts = { index: (a, b) => a.index - b.index, rows: (a, b) => b.rows_in_per_s - a.rows_in_per_s, busy: (a, b) => b.busy - a.busy, queue: (a, b) => b.queued_bytes - a.queued_bytes };
    const shown = [...this.subtasks].sort(sorts[this.by]).slice(0, this.most);
    const head = (name, by) => h("th.number", null, h("button.sort", { onclick: () => { this.by = by; this.page.redraw(); }, "aria-pressed": String(this.by === by) }, name));
    return h("div", null, h("h3", null, counted(this.subtasks.length, "subtask")), h("div.scroll", null, h("table.subtasks", null,
      h("thead", null, h("tr", null, head("#", "index"), h("th", null, "time"), head("rows in/s", "rows"), head("busy", "busy"), head("queue", "queue"), h("th", null, "process"), h("th"))),
      h("tbody", null, shown.map((one) => h("tr", { "data-key": one.index, "data-subtask": one.index },
        h("td.number", null, String(one.index)), h("td.wide", null, shares(one)),
        h("td.number", null, perSecond(one.operator?.rows_in_per_s || one.rows_in_per_s)), h("td.number", null, percent(one.busy)),
        h("td.number", null, percent(one.queue_bytes_max ? one.queued_bytes / one.queue_bytes_max : 0)),
        h("td.small", { title: one.process?.node_ip ?? "" }, one.process ? `${one.process.pid} · ${bytes(one.process.rss_bytes)}` : "–"),
        h("td", null, h("button.small", { onclick: () => this.look(one.index), title: "profile this subtask" }, "Profile"))))))),
    this.subtasks.length > this.most && h("button", { onclick: () => { this.most += ROWS; this.page.redraw(); } }, `Show ${ROWS} more of ${this.subtasks.length}`),
    this.stuck());
  }

  stuck() {
    return this.subtasks.filter((one) => one.at).slice(0, 5).map((one) => h("p.where", null, `subtask ${one.index} has been at `, h("code", null, one.at), ` for ${lasting(one.working_us)}`));
  }

  /** Profile a subtask, and draw its flames. */
  async look(subtask) {
    this.profile = null;
    this.said = `Profiling subtask ${subtask} for 3 seconds …`;
    this.page.redraw();
    try {
      this.profile = await get("/jobs/{job}/profile", { job: this.page.name }, { operator: this.operator, subtask, seconds: 3, native: this.native });
      this.root = this.zoom = tree(this.profile.collapsed);
      this.said = null;
    } catch (error) {
      this.said = `${error.message}. ${error.hint}`;
    }
    this.page.redraw();
  }

  profiled() {
    const { profile } = this;
    return h("div", null, h("div.row.between", null, h("h3", null, "Profile"),
      h("label.check", { title: "needs py-spy on the node" }, h("input", { type: "checkbox", checked: this.native, onchange: (e) => { this.native = e.target.checked; } }), "Compiled code too"),
      h("button", { onclick: () => this.look(0) }, "Profile")),
      this.said && h("p.quiet", { role: "status" }, this.said),
      profile && [h("p.quiet", null, `subtask ${profile.subtask}: ${counted(profile.samples, "sample")} in ${profile.seconds.toFixed(1)} s, by ${profile.cpu_known ? "CPU" : "the clock"}${profile.native_share === null ? "" : `, ${percent(profile.native_share)} in compiled code`}`),
        h("div.scroll", null, flame(this.root, this.zoom, (node) => { this.zoom = node; this.page.redraw(); }, Math.max(300, Math.min(640, innerWidth - 56)))),
        h("table.top", null, h("tbody", null, profile.top.slice(0, 8).map((one) => h("tr", null, h("td.number", null, percent(one.own_share)), h("td", null, h("code", null, one.function)), h("td.quiet", null, `${one.file.split("/").slice(-2).join("/")}:${one.line}`)))))]);
  }

  /** Show rows that leave the operator, until told to end. */
  async tap() {
    if (this.live) {
      this.live = null;
      return this.page.redraw();
    }
    const rows = this.live = [];
    while (this.live === rows && !this.over) {
      this.page.redraw();
      try {
        const said = await get("/jobs/{job}/sample", { job: this.page.name }, { edge: this.operator, rows: 20, seconds: 2 });
        rows.unshift(...said.rows.reverse());
        rows.length = Math.min(rows.length, LIVE);
        this.dry = said.rows.length === 0;
      } catch (error) {
        this.said = `${error.message}. ${error.hint}`;
        this.live = null;
      }
      await new Promise((go) => setTimeout(go, 500));
    }
    return this.page.redraw();
  }

  tapped() {
    const rows = this.live;
    return h("div", null, h("div.row.between", null, h("h3", null, "Live rows"), h("button", { onclick: () => this.tap(), "aria-pressed": String(rows !== null) }, rows ? "End tap" : "Tap")),
      rows && !rows.length && h("p.quiet", null, this.dry ? "no row has left it" : "waiting for rows …"),
      rows && rows.length > 0 && h("div.scroll.live", null, h("table.rows", null, h("tbody", null, rows.map((row) =>
        h("tr", null, h("td.number.quiet", null, String(row.subtask)), row.op && h("td.quiet", null, row.op), h("td", null, h("code", null, JSON.stringify(row.value)))))))));
  }
}

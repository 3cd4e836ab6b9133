// Checkpoints and savepoints: what they took, and of one of them where its time went.

import { get } from "./api.js";
import { bars, timeline } from "./charts.js";
import { h } from "./dom.js";
import { bytes, counted, lasting, moment, whole } from "./words.js";

const ROWS = 60;

export const checkpoints = {
  id: "checkpoints",
  title: "Checkpoints",
  async load(page) {
    page.data.checkpoints = await get("/jobs/{job}/checkpoints", { job: page.name });
  },
  draw(page) {
    const said = page.data.checkpoints;
    if (!said) return h("p.quiet", null, "…");
    const made = said.checkpoints, done = made.filter((one) => one.status === "completed");
    const settings = said.settings;
    return [
      h("p.quiet", null, settings ? `Every ${lasting(settings.every_us)}; a click on its number tells of one.` : "The job makes no checkpoints."),
      done.length > 1 && h("div", null, h("h3", null, "How long the newest took"), bars(done.map((one) => one.duration_us).reverse(), `at most ${lasting(Math.max(...done.map((one) => one.duration_us)))}`)),
      h("div.scroll", null, h("table#made", null,
        h("thead", null, h("tr", null, ["#", "State", "Began", "Took", "State size", "New", "Kind"].map((t) => h("th", { class: /Took|size|New|#/.test(t) ? "number" : "" }, t)))),
        h("tbody", null, made.slice(0, ROWS).map((one) => row(one, page))))),
      !made.length && h("p.quiet", null, "None was made yet."),
      page.data.checkpoint && details(page.data.checkpoint, () => { page.data.checkpoint = null; page.redraw(); }),
    ];
  },
};

function row(one, page) {
  const open = async () => {
    page.data.checkpoint = await get("/jobs/{job}/checkpoints/{checkpoint}", { job: page.name, checkpoint: one.checkpoint_id }).catch(() => null);
    page.redraw();
  };
  return h("tr", { "data-key": one.checkpoint_id, "data-checkpoint": one.checkpoint_id },
    h("td.number", null, h("button.link", { onclick: open }, String(one.checkpoint_id))),
    h("td", null, h("span.status", { class: `is-${one.status}` }, one.status), one.reason && h("small.quiet", null, ` ${one.reason}`)),
    h("td", null, moment(one.triggered_us)), h("td.number", null, lasting(one.duration_us)),
    h("td.number", null, bytes(one.bytes)), h("td.number", null, bytes(one.new_bytes)),
    h("td", null, one.savepoint ? "savepoint" : "checkpoint"));
}

function details(one, close) {
  const most = Math.max(1, ...one.subtasks.map((part) => Math.max(part.acked_us, part.alignment_us + part.sync_us + part.upload_us)));
  return h("div.details", { "data-key": one.checkpoint_id },
    h("div.row.between", null, h("h3", null, `Checkpoint ${one.checkpoint_id}: its subtasks, the slowest first`), h("button.quiet", { onclick: close, "aria-label": "close" }, "✕")),
    h("div.legend", null, ["alignment", "sync", "upload"].map((name) => h("span", null, h("i", { class: name }), name))),
    h("div.scroll", null, h("table", null, h("tbody", null, one.subtasks.slice(0, ROWS).map((part) => h("tr", null,
      h("td", null, part.subtask),
      h("td.wide", null, timeline([["alignment", part.alignment_us], ["sync", part.sync_us], ["upload", part.upload_us]], most)),
      h("td.number", null, lasting(part.acked_us)), h("td.number", null, bytes(part.bytes)), h("td.number", null, `${whole(part.rows)} rows`)))))),
    one.subtasks.length > ROWS && h("p.quiet", null, `and ${counted(one.subtasks.length - ROWS, "faster one")}`),
    one.state.length > 0 && h("table", null, h("thead", null, h("tr", null, h("th", null, "Kept by"), h("th.number", null, "Rows"), h("th.number", null, "Size"))),
      h("tbody", null, one.state.map((kept) => h("tr", null, h("td", null, kept.uid), h("td.number", null, whole(kept.rows)), h("td.number", null, bytes(kept.bytes)))))));
}

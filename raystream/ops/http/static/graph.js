// The graph of operators: boxes in layers, drawn from the figures that the feed brings.

import { sharesSvg } from "./charts.js";
import { h, tip } from "./dom.js";
import { cut, lasting, percent, perSecond } from "./words.js";

const WIDE = 214, TALL = 98, GAP_X = 70, GAP_Y = 24, MARGIN = 10;

/** Give each operator its layer and its row: every line leads on, and few of them cross. */
export function places(operators) {
  const known = new Set(operators.map((one) => one.name)), layer = new Map(), row = new Map();
  for (const one of operators) {
    const before = one.inputs.filter((name) => layer.has(name)).map((name) => layer.get(name) + 1);
    layer.set(one.name, Math.max(0, ...before));
  }
  const columns = [];
  for (const one of operators) (columns[layer.get(one.name)] ??= []).push(one);
  for (const column of columns) {
    const wanted = new Map(column.map((one) => {
      const rows = one.inputs.filter((name) => known.has(name) && row.has(name)).map((name) => row.get(name));
      return [one.name, rows.length ? rows.reduce((a, b) => a + b, 0) / rows.length : 0];
    }));
    let next = 0;
    for (const one of [...column].sort((a, b) => wanted.get(a.name) - wanted.get(b.name))) {
      const at = Math.max(next, wanted.get(one.name));
      row.set(one.name, at);
      next = at + 1;
    }
  }
  return new Map(operators.map((one) => [one.name, { layer: layer.get(one.name), row: row.get(one.name) }]));
}

/** How far event time of an operator is behind the clock, in words. */
export function lag(one, at_us) {
  if (one.ended) return "ended";
  return one.watermark_us === null ? "none yet" : lasting(at_us - one.watermark_us);
}

/** What share of an operator's queues is full. */
export function fill(one, config) {
  const most = (config?.input_bytes_max ?? 0) * one.parallelism;
  return most ? Math.min(1, one.queued_bytes / most) : 0;
}

/** Draw it; in a narrow window from the top down. */
export function graph(job, { plan, config, bottleneck, chosen, choose, narrow }) {
  const operators = job.operators, at = places(operators);
  const xy = (name) => {
    const { layer, row } = at.get(name);
    return narrow
      ? { x: MARGIN + row * (WIDE + 14), y: MARGIN + layer * (TALL + 40) }
      : { x: MARGIN + layer * (WIDE + GAP_X), y: MARGIN + row * (TALL + GAP_Y) };
  };
  const spots = operators.map((one) => xy(one.name));
  const width = Math.max(0, ...spots.map((p) => p.x)) + WIDE + MARGIN;
  const height = Math.max(0, ...spots.map((p) => p.y)) + TALL + MARGIN;
  const most = Math.max(1, ...operators.map((one) => one.rows_out_per_s));
  const byName = new Map(operators.map((one) => [one.name, one]));
  const told = new Map((plan?.chains ?? []).flatMap((c) => c.operators).map((one) => [one.name, one]));
  const lines = operators.flatMap((one) => one.inputs.filter((up) => byName.has(up)).map((up) =>
    line(xy(up), xy(one.name), byName.get(up), one, most, narrow)));
  const boxes = operators.map((one) =>
    box(one, xy(one.name), job.at_us, { told: told.get(one.name), config, held: bottleneck === one.name, chosen: chosen === one.name, choose }));
  return h("div.graph", null,
    h("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": "operators of the job", onkeydown: moved }, lines, boxes));
}

function line(up, down, from, to, most, narrow) {
  const [x1, y1] = narrow ? [up.x + WIDE / 2, up.y + TALL] : [up.x + WIDE, up.y + TALL / 2];
  const [x2, y2] = narrow ? [down.x + WIDE / 2, down.y] : [down.x, down.y + TALL / 2];
  const bend = narrow ? `${x1} ${(y1 + y2) / 2} ${x2} ${(y1 + y2) / 2}` : `${(x1 + x2) / 2} ${y1} ${(x1 + x2) / 2} ${y2}`;
  const thick = (1.2 + 5 * Math.sqrt(from.rows_out_per_s / most)).toFixed(1);
  const label = to.chain === from.chain ? "" : cut((to.exchange || "").replace(/\(.*/, ""), 11);
  return h("g.edge", { class: to.chain === from.chain ? "chained" : "" },
    tip(`${from.name} → ${to.name}: ${perSecond(from.rows_out_per_s)} ${to.exchange || ""}`),
    h("path", { d: `M${x1} ${y1} C${bend} ${x2} ${y2}`, "stroke-width": thick }),
    label && h("text", { x: (x1 + x2) / 2 + (narrow ? 8 : 0), y: (y1 + y2) / 2 - (narrow ? -4 : 8), "text-anchor": narrow ? "start" : "middle" }, label));
}

function box(one, { x, y }, at_us, { told, config, held, chosen, choose }) {
  const says = told ? `${told.verb} ${told.describe}`.trim() : one.kind;
  const full = fill(one, config), act = () => choose(one.name);
  const label = `${one.name}, ${one.parallelism} subtasks, busy ${percent(one.busy)}${held ? ", the bottleneck" : ""}`;
  return h("g.node", {
    tabindex: 0, role: "button", "aria-label": label, "data-key": one.name, "data-operator": one.name,
    class: `${held ? "held" : ""} ${chosen ? "chosen" : ""}`,
    onclick: act, onkeydown: (event) => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); act(); } },
  },
    tip(`${one.name}\n${says}\n${told?.where ?? ""}`),
    h("rect.box", { x, y, width: WIDE, height: TALL, rx: 9 }),
    h("text.name", { x: x + 11, y: y + 20 }, cut(one.name, 22)),
    h("text.p", { x: x + WIDE - 11, y: y + 20, "text-anchor": "end" }, `p=${one.parallelism}`),
    h("text.says", { x: x + 11, y: y + 36 }, cut(says, 31)),
    h("text.rates", { x: x + 11, y: y + 55 }, `in ${perSecond(one.rows_in_per_s)}`),
    h("text.rates", { x: x + WIDE - 11, y: y + 55, "text-anchor": "end" }, `out ${perSecond(one.rows_out_per_s)}`),
    sharesSvg(one, x + 11, y + 63, WIDE - 22),
    h("text.small", { x: x + 11, y: y + 87 }, `lag ${lag(one, at_us)}`),
    h("rect.gauge", { x: x + WIDE - 47, y: y + 80, width: 36, height: 7, rx: 3 }),
    h("rect.filled", { x: x + WIDE - 47, y: y + 80, width: (36 * full).toFixed(1), height: 7, rx: 3 }),
    h("text.small", { x: x + WIDE - 52, y: y + 87, "text-anchor": "end" }, `queue ${percent(full)}`));
}

/** Arrow keys go to the next box in their direction. */
function moved(event) {
  const way = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] }[event.key];
  const from = event.target.closest?.(".node");
  if (!way || !from) return;
  event.preventDefault();
  const middle = (node) => { const b = node.getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2]; };
  const [x, y] = middle(from);
  let best = null, least = Infinity;
  for (const node of from.ownerSVGElement.querySelectorAll(".node")) {
    const [nx, ny] = middle(node), along = (nx - x) * way[0] + (ny - y) * way[1];
    const aside = Math.abs((nx - x) * way[1]) + Math.abs((ny - y) * way[0]);
    if (node !== from && along > 4 && along + 2 * aside < least) [best, least] = [node, along + 2 * aside];
  }
  best?.focus();
}

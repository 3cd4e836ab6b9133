// Small pictures: shares, lines of the last minutes, bars over subtasks, flame graphs.

import { h, tip } from "./dom.js";
import { cut, lasting, percent } from "./words.js";

/** Where time went, as a bar of three parts. */
export function shares(one) {
  const parts = ["busy", "backpressured", "idle"];
  const label = parts.map((name) => `${name} ${percent(one[name])}`).join(", ");
  return h("span.shares", { role: "img", "aria-label": label, title: label },
    parts.map((name) => h(`span.${name}`, { style: { "flex-grow": String(Math.round(1000 * one[name])) } })));
}

/** The same within the graph. */
export function sharesSvg(one, x, y, width) {
  let at = x;
  return ["busy", "backpressured", "idle"].map((name) => {
    const wide = width * Math.min(1, one[name]);
    const bar = h(`rect.${name}`, { x: at.toFixed(1), y, width: Math.max(0, Math.min(wide, x + width - at)).toFixed(1), height: 7 });
    at += wide;
    return bar;
  });
}

/** A line of the newest values. */
export function spark(values, says) {
  const width = 150, height = 34, most = Math.max(...values, 1e-9);
  const step = width / Math.max(1, values.length - 1);
  const points = values.map((v, i) => `${(i * step).toFixed(1)},${(height - 2 - (height - 6) * (v / most)).toFixed(1)}`);
  return h("svg.spark", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": says, preserveAspectRatio: "none" },
    values.length > 1 && h("path.under", { d: `M0,${height} L${points.join(" L")} L${width},${height}Z` }),
    values.length > 1 && h("polyline", { points: points.join(" ") }));
}

/** One bar for each subtask, as one path: five hundred of them are one element. */
export function bars(values, says) {
  const width = 600, height = 64, most = Math.max(...values, 1e-9);
  const step = width / values.length, wide = Math.max(0.8, step * 0.8);
  const mean = values.reduce((a, b) => a + b, 0) / values.length;
  const path = values.map((v, i) => {
    const tall = Math.max(1, (height - 4) * (v / most));
    return `M${(i * step).toFixed(2)},${height}v${(-tall).toFixed(1)}h${wide.toFixed(2)}v${tall.toFixed(1)}z`;
  });
  const y = (height - (height - 4) * (mean / most)).toFixed(1);
  return h("svg.bars", { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", role: "img", "aria-label": says },
    tip(says), h("path", { d: path.join("") }), h("line", { x1: 0, x2: width, y1: y, y2: y }));
}

/** Parts of a length of time, to a scale. */
export function timeline(parts, most) {
  const label = parts.map(([name, us]) => `${name} ${lasting(us)}`).join(", ");
  return h("span.timeline", { role: "img", "aria-label": label, title: label }, parts.map(([name, us]) =>
    h(`span.${name}`, { style: { width: `${(100 * us / Math.max(1, most)).toFixed(2)}%` } })));
}

/** Put collapsed stacks together: `a;b;c 30` a line. */
export function tree(collapsed) {
  const root = { name: "all", value: 0, children: new Map() };
  for (const line of collapsed.split("\n")) {
    const cutAt = line.lastIndexOf(" "), value = Number(line.slice(cutAt + 1));
    if (cutAt < 1 || !Number.isFinite(value)) continue;
    let at = root;
    at.value += value;
    for (const name of line.slice(0, cutAt).split(";")) {
      if (!at.children.has(name)) at.children.set(name, { name, value: 0, children: new Map() });
      at = at.children.get(name);
      at.value += value;
    }
  }
  return root;
}

/** A flame graph that hangs down; a click on a frame makes it the widest. */
export function flame(root, zoom, zoomed, width) {
  const tall = 19, made = [];
  let depth = 0;
  const draw = (node, x, y, scale) => {
    const wide = node.value * scale;
    if (wide < 1.2) return;
    depth = Math.max(depth, y + tall);
    const says = `${node.name} — ${percent(node.value / root.value)} (${node.value})`;
    made.push(h("g.frame", { onclick: () => zoomed(node === zoom ? root : node), class: `hue${hue(node.name)}` }, tip(says),
      h("rect", { x: x.toFixed(1), y, width: Math.max(0.6, wide - 0.6).toFixed(1), height: tall - 1, rx: 2 }),
      wide > 34 && h("text", { x: (x + 4).toFixed(1), y: y + 13 }, cut(brief(node.name), Math.floor((wide - 8) / 6.7)))));
    for (const child of [...node.children.values()].sort((a, b) => b.value - a.value)) {
      draw(child, x, y + tall, scale);
      x += child.value * scale;
    }
  };
  draw(zoom, 0, 0, width / Math.max(1, zoom.value));
  return h("svg.flame", { width, height: depth, viewBox: `0 0 ${width} ${depth}`, role: "img", "aria-label": "flame graph" }, made);
}

/** A frame's name with the last part of its file: the whole of it stands in the tooltip. */
const brief = (name) => name.replace(/\(([^()]*)\/([^()/]*)\)$/, "($2)");

function hue(name) {
  let sum = 0;
  for (const letter of name) sum = (sum * 31 + letter.charCodeAt(0)) % 997;
  return sum % 5;
}

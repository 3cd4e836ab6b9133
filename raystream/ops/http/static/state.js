// What the newest checkpoint holds, and a look into a typed state of it.

import { get } from "./api.js";
import { h } from "./dom.js";
import { bytes, counted, whole } from "./words.js";

export const state = {
  id: "state",
  title: "State",
  async load(page) {
    if (page.data.states && page.data.statesOf === page.job.newest_checkpoint?.checkpoint_id) return;
    page.data.states = (await get("/jobs/{job}/state", { job: page.name })).states;
    page.data.statesOf = page.job.newest_checkpoint?.checkpoint_id;
  },
  draw(page) {
    const { states, held } = page.data;
    if (!states) return h("p.quiet", null, "…");
    return [
      h("p.quiet", null, states.length ? "As the newest checkpoint has it: looking holds nobody up." : "No checkpoint holds any state yet."),
      h("div.scroll", null, h("table#states", null, h("thead", null, h("tr", null, ["Operator", "State", "Key", "Type", "Rows", "Size", ""].map((t) => h("th", { class: /Rows|Size/.test(t) ? "number" : "" }, t)))),
        h("tbody", null, states.slice(0, 60).map((one) => h("tr", { "data-key": `${one.uid}/${one.name}`, "data-uid": one.uid },
          h("td", null, one.operator || one.uid), h("td", null, one.name), h("td", null, one.keys.join(", ") || "–"), h("td", null, h("code", null, one.type)),
          h("td.number", null, whole(one.rows)), h("td.number", null, bytes(one.bytes)),
          h("td", null, pickled(one) ? h("span.quiet", { title: "it has no type, and nothing is unpickled here" }, "pickled") : h("button", { onclick: () => choose(page, one) }, "Look"))))))),
      held && looked(page, held),
    ];
  },
};

const pickled = (one) => one.type.includes("pickled") || one.keys.some((key) => key.includes("pickled"));

function choose(page, one) {
  page.data.held = { one, found: null, said: null };
  ask(page, page.data.held, []);
}

async function ask(page, held, key) {
  try {
    const { uid, name } = held.one;
    held.found = await get("/jobs/{job}/state/{uid}/{name}", { job: page.name, uid, name }, { limit: 60, ...(key.length ? { key } : {}) });
    held.said = null;
  } catch (error) {
    held.said = `${error.message}. ${error.hint}`;
  }
  page.redraw();
}

function looked(page, held) {
  const { one, found, said } = held;
  const sent = (event) => {
    event.preventDefault();
    const given = new FormData(event.target).getAll("key");
    ask(page, held, given.some((text) => text !== "") ? given : []);
  };
  return h("div.details", { "data-key": `${one.uid}/${one.name}` }, h("h3", null, `${one.operator || one.uid} · ${one.name}`),
    one.keys.length > 0 && h("form.row", { onsubmit: sent }, one.keys.map((key) => h("label", null, key, h("input", { name: "key", autocomplete: "off" }))), h("button.primary", null, "Look up")),
    said && h("p.said.bad", { role: "alert" }, said),
    found && [h("p.quiet", null, `${counted(found.found, "row")}${found.truncated ? `, the first ${found.rows.length} of them` : ""}`),
      h("div.scroll", null, h("table#found", null, h("thead", null, h("tr", null, found.columns.map((c) => h("th", { title: c.type }, c.name)))),
        h("tbody", null, found.rows.map((row) => h("tr", null, found.columns.map((c) => h("td", null, h("code", null, typeof row[c.name] === "string" ? row[c.name] : JSON.stringify(row[c.name] ?? null)))))))))]);
}

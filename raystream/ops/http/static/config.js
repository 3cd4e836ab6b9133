// The settings of a job, as they are.

import { get } from "./api.js";
import { h } from "./dom.js";

export const config = {
  id: "config",
  title: "Config",
  async load(page) {
    page.data.config = await get("/jobs/{job}/config", { job: page.name });
  },
  draw(page) {
    const said = page.data.config;
    if (!said) return h("p.quiet", null, "…");
    return h("div.scroll", null, h("table#settings", null, h("tbody", null, rows(said).map(([name, value]) => h("tr", null, h("td", null, name), h("td", null, h("code", null, value)))))));
  },
};

function rows(value, name = "") {
  if (value === null || typeof value !== "object" || Array.isArray(value)) return [[name, typeof value === "string" ? value : JSON.stringify(value)]];
  return Object.entries(value).flatMap(([key, each]) => rows(each, name ? `${name}.${key}` : key));
}

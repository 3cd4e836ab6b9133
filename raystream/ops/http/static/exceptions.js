// What broke: the user's line first, then what was said, then where it ran.

import { get } from "./api.js";
import { h } from "./dom.js";
import { counted, moment } from "./words.js";

export const exceptions = {
  id: "exceptions",
  title: "Exceptions",
  async load(page) {
    page.data.exceptions = await get("/jobs/{job}/exceptions", { job: page.name });
  },
  draw(page) {
    const said = page.data.exceptions;
    if (!said) return h("p.quiet", null, "…");
    return [
      h("p.quiet", null, said.exceptions.length ? counted(said.restarts, "restart") : "Nothing broke."),
      said.exceptions.slice(0, 60).map((one) => h("article.failure", { "data-key": `${one.at_us}${one.subtask}` },
        h("code.line", null, one.where || "no line of yours"),
        h("pre", null, `${one.kind}: ${one.message}`),
        h("p.quiet", null, [one.operator && `operator ${one.operator}`, one.subtask && `subtask ${one.subtask}`, `attempt ${one.attempt}`, moment(one.at_us)].filter(Boolean).join(" · ")))),
    ];
  },
};

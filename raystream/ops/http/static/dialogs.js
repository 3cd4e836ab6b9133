// Questions before something changes, and short messages.

import { h, put } from "./dom.js";

const dialog = document.getElementById("dialog");

export const shown = () => dialog.open;
export const close = () => dialog.close();

/** Show something; with `act` it asks first, and gives what was typed. */
export function form(title, body, word, act, danger = false) {
  const sent = async (event) => {
    event.preventDefault();
    const values = Object.fromEntries(new FormData(event.target));
    dialog.close();
    await act?.(values);
  };
  dialog.replaceChildren();
  put(dialog, h("form", { onsubmit: sent }, h("h2", null, title), body,
    h("div.row.end", null,
      h("button", { type: "button", onclick: close }, act ? "Not now" : "Close"),
      act && h("button", { class: danger ? "danger" : "primary", type: "submit" }, word))));
  dialog.showModal();
}

// Elements are made new at every drawing and then compared with those that stand on the page:
// only what differs is touched, so that focus, scrolling and typed text stay where they are.
// Styles go through the CSSOM: the page's policy refuses style attributes.

const SVG = new Set(["svg", "g", "rect", "path", "text", "line", "polyline", "tspan"]);

/** Make an element: `h("div.card#made", {onclick: …}, "text", child, [more])`. */
export function h(tag, props, ...children) {
  const [before, id] = tag.split("#");
  const [name, ...classes] = before.split(".");
  const made = SVG.has(name)
    ? document.createElementNS("http://www.w3.org/2000/svg", name)
    : document.createElement(name);
  if (classes.length) made.setAttribute("class", classes.join(" "));
  if (id) made.id = id;
  made.acts = {};
  for (const [key, value] of Object.entries(props ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) made[key] = made.acts[key] = value;
    else if (key === "style") for (const [k, v] of Object.entries(value)) made.style.setProperty(k, v);
    else if (key === "class") made.setAttribute("class", [...classes, value].join(" "));
    else made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.flat(Infinity).filter((c) => c !== null && c !== undefined && c !== false));
  return made;
}

/** A tooltip within SVG. */
export function tip(text) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", "title");
  made.textContent = text;
  return made;
}

/** Let an element have these children, and touch only what differs: a child that stays is found
 *  by its name, first class and `data-key`, whatever came or went before it. */
export function put(parent, ...children) {
  const wanted = children.flat(Infinity).filter((c) => c !== null && c !== undefined && c !== false);
  let at = parent.firstChild;
  for (const child of wanted.map((c) => (typeof c === "string" ? document.createTextNode(c) : c))) {
    let there = at;
    while (there && !alike(there, child)) there = there.nextSibling;
    if (there === null) {
      parent.insertBefore(child, at);
      continue;
    }
    while (at !== there) at = dropped(at);
    at = there.nextSibling;
    patch(there, child);
  }
  while (at) at = dropped(at);
}

function dropped(node) {
  const next = node.nextSibling;
  node.remove();
  return next;
}

function alike(old, fresh) {
  if (old.nodeName !== fresh.nodeName) return false;
  return old.nodeType !== 1 || (old.getAttribute("data-key") === fresh.getAttribute("data-key") && kind(old) === kind(fresh));
}

/** The first class says what an element is, the others how it does. */
function kind(element) {
  return element.classList[0] ?? "";
}

function patch(old, fresh) {
  if (old.nodeType !== 1) {
    if (old.data !== fresh.data) old.data = fresh.data;
    return;
  }
  for (const { name } of [...old.attributes]) {
    // An open fold was opened by somebody.
    if (name !== "open" && !fresh.hasAttribute(name)) old.removeAttribute(name);
  }
  for (const { name, value } of fresh.attributes) {
    if (name !== "style" && old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  if (old.style.cssText !== fresh.style.cssText) old.style.cssText = fresh.style.cssText;
  for (const key of Object.keys(old.acts ?? {})) if (!(key in (fresh.acts ?? {}))) old[key] = null;
  for (const [key, act] of Object.entries(fresh.acts ?? {})) old[key] = act;
  old.acts = fresh.acts;
  put(old, ...fresh.childNodes);
}

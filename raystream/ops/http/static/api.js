// What is asked of the server. The token comes behind the # of the address, which no browser sends
// along, and is kept for as long as the tab is open.

const KEY = "raystream-token";
const BASE = "/api/v1";

/** Take the token out of the address, if it stands there. */
export function takeToken() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (!given) return;
  keepToken(given);
  history.replaceState(null, "", "#/jobs");
}

export function keepToken(token) {
  sessionStorage.setItem(KEY, token);
}

/** A request that was refused; `hint` says what to do instead. */
export class Refused extends Error {
  constructor(status, said) {
    super(said?.message ?? `the server said ${status}`);
    this.status = status;
    this.hint = said?.hint ?? "";
  }
}

function headers(more) {
  const token = sessionStorage.getItem(KEY);
  return token ? { Authorization: `Bearer ${token}`, ...more } : { ...more };
}

async function asked(path, options) {
  let said;
  try {
    said = await fetch(BASE + path, options);
  } catch {
    throw new Refused(0, { message: "the server does not answer", hint: "is `raystream dashboard` still running?" });
  }
  if (!said.ok) throw new Refused(said.status, (await said.json().catch(() => ({}))).error);
  return said.json();
}

/** Fill the places of a path: `/jobs/{job}/plan`. */
export function filled(path, places) {
  return path.replace(/\{(\w+)\}/g, (_, name) => encodeURIComponent(places[name]));
}

export function get(path, places = {}, query = {}) {
  const pairs = Object.entries(query).flatMap(([k, v]) => [v].flat().map((one) => [k, String(one)]));
  const behind = pairs.length ? `?${new URLSearchParams(pairs)}` : "";
  return asked(filled(path, places) + behind, { headers: headers() });
}

export function post(path, places, body) {
  return asked(filled(path, places), {
    method: "POST",
    headers: headers({ "Content-Type": "application/json" }),
    body: JSON.stringify(body),
  });
}

/** Listen to jobs until told to end; an `EventSource` could not send the token. */
export function listen(job, told, state) {
  const ended = new AbortController();
  (async () => {
    for (let wait = 1000; !ended.signal.aborted; wait = Math.min(wait * 2, 10_000)) {
      try {
        const query = job === null ? "" : `?${new URLSearchParams({ job })}`;
        const said = await fetch(`${BASE}/events${query}`, { headers: headers(), signal: ended.signal });
        if (!said.ok) throw new Refused(said.status, (await said.json().catch(() => ({}))).error);
        state(null);
        wait = 500;
        await read(said.body, told);
        throw new Refused(0, { message: "the server has ended" });
      } catch (error) {
        if (ended.signal.aborted) return;
        state(error);
        if (error.status === 401) return;
      }
      await new Promise((go) => setTimeout(go, wait));
    }
  })();
  return () => ended.abort();
}

async function read(body, told) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  for (let text = ""; ;) {
    const { value, done } = await reader.read();
    if (done) return;
    const events = (text + value).split("\n\n");
    text = events.pop();
    for (const event of events) {
      const [kind, data] = event.split("\n");
      if (kind === "event: job") told(JSON.parse(data.slice("data: ".length)));
    }
  }
}

// Numbers, lengths of time and sizes as people read them.

/** 950, 1.2k, 34M: three digits at most. */
export function short(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  const steps = [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]];
  const step = steps.find(([size]) => Math.abs(value) >= size);
  if (!step) return trimmed(value);
  return trimmed(value / step[0]) + step[1];
}

function trimmed(value) {
  const size = Math.abs(value);
  return String(Number(value.toFixed(size >= 100 || size === 0 ? 0 : size >= 10 ? 1 : 2)));
}

/** All digits, in groups. */
export const whole = (value) => (value ?? null) === null ? "–" : Math.round(value).toLocaleString("en");

export const percent = (share) => `${Math.round(100 * (share ?? 0))}%`;

export const perSecond = (value) => `${short(value)}/s`;

export function bytes(value) {
  if ((value ?? null) === null) return "–";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let at = 0;
  for (; Math.abs(value) >= 1024 && at < units.length - 1; at += 1) value /= 1024;
  return `${trimmed(value)} ${units[at]}`;
}

/** A length of time that is given in microseconds. */
export function lasting(us) {
  if ((us ?? null) === null) return "–";
  const size = Math.abs(us), sign = us < 0 ? "−" : "";
  if (size < 1e3) return `${sign}${Math.round(size)} µs`;
  if (size < 1e6) return `${sign}${trimmed(size / 1e3)} ms`;
  if (size < 120e6) return `${sign}${trimmed(size / 1e6)} s`;
  const minutes = Math.floor(size / 60e6);
  if (minutes < 120) return `${sign}${minutes} min ${Math.floor((size / 1e6) % 60)} s`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return `${sign}${hours} h ${minutes % 60} min`;
  const days = Math.floor(hours / 24);
  return days < 10_000 ? `${sign}${days} d ${hours % 24} h` : `${sign}${short(days / 365.25)} years`;
}

/** A moment that is given in microseconds since the epoch, by the clock of who looks. */
export function moment(us) {
  if ((us ?? null) === null) return "–";
  const date = new Date(us / 1e3);
  const today = new Date().toDateString() === date.toDateString();
  return today ? date.toLocaleTimeString("en-GB") : date.toLocaleString("en-GB");
}

export const cut = (text, most) => (text.length <= most ? text : `${text.slice(0, most - 1)}…`);

/** The words of a number of things. */
export const counted = (count, one, many = `${one}s`) => `${whole(count)} ${count === 1 ? one : many}`;

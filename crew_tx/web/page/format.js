// Numbers, times and names, as people read them.

const HEX = 32;
const SHOWN_OF_HEX = 6;
const LONGEST = 30;
const QUEUE = "crew.tasks.";

/** A rate of calls a second; a dash where it is not known yet. */
export function rate(value) {
  if (value === null || value === undefined) return "–";
  return value >= 100 ? value.toFixed(0) : value.toFixed(1);
}

/** A duration in seconds, in its two largest units. */
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 0.001) return "0 ms";
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${Math.floor(seconds % 60)} s`;
  const hours = Math.floor(minutes / 60);
  if (hours < 24) return `${hours} h ${minutes % 60} min`;
  return `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

/** A time of the day, of seconds since 1970; with the date where it was another day. */
export function time(seconds) {
  const then = new Date(seconds * 1000);
  const clock = then.toLocaleTimeString();
  return then.toDateString() === new Date().toDateString() ? clock : `${then.toLocaleDateString()} ${clock}`;
}

/** A count, with the word that goes with it. */
export function count(number, one, many) {
  return `${whole(number)} ${number === 1 ? one : many}`;
}

/** A whole number. */
export function whole(number) {
  return number === null || number === undefined ? "–" : number.toLocaleString();
}

/** Bytes. */
export function size(bytes) {
  if (bytes < 1024) return `${bytes} B`;
  return bytes < 1024 * 1024 ? `${(bytes / 1024).toFixed(1)} KiB` : `${(bytes / 1024 / 1024).toFixed(1)} MiB`;
}

/** A worker, or a client, by its name and the first digits of its id. */
export function worker(wid) {
  return short(wid.length > HEX ? wid.slice(0, wid.length - HEX + SHOWN_OF_HEX) : wid);
}

/** The end of a long text: what tells it from others is there. */
export function short(text) {
  return text.length > LONGEST ? `…${text.slice(-LONGEST)}` : text;
}

/** A queue by what its tasks call it. */
export function queue(name) {
  return name.startsWith(QUEUE) ? name.slice(QUEUE.length) : name;
}

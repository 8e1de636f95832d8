/** Figures as people read them. */

const NARROW = "\u202f";

/** `1 234`, `12.3`, `0.45`: three digits where it is not whole. */
export function number(value: number): string {
  if (Math.abs(value) >= 100 || Number.isInteger(value)) {
    return group(Math.round(value));
  }
  return value.toFixed(Math.abs(value) >= 10 ? 1 : 2);
}

/** Thousands apart. */
export function group(value: number): string {
  return String(value).replace(/\B(?=(\d{3})+(?!\d))/g, NARROW);
}

/** Milliseconds: `0.8 ms`, `31 ms`, `1.2 s`, `3 min 5 s`. */
export function duration(ms: number): string {
  if (ms < 1000) {
    return `${ms < 10 ? ms.toFixed(1) : Math.round(ms)}${NARROW}ms`;
  }
  const seconds = ms / 1000;
  if (seconds < 60) {
    return `${seconds.toFixed(seconds < 10 ? 1 : 0)}${NARROW}s`;
  }
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) {
    return `${minutes}${NARROW}min ${Math.round(seconds % 60)}${NARROW}s`;
  }
  return `${Math.floor(minutes / 60)}${NARROW}h ${minutes % 60}${NARROW}min`;
}

/** Bytes: `512 B`, `4.2 MB`, `1.1 GB`. */
export function bytes(count: number): string {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let value = count;
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${unit === 0 ? value : value.toFixed(value < 10 ? 1 : 0)}${NARROW}${units[unit]}`;
}

/** `1 token`, `2 tokens`. */
export function counted(count: number, one: string, many = `${one}s`): string {
  return `${group(count)} ${count === 1 ? one : many}`;
}

/** When something was, in the reader's own clock: the time today, else the day too. */
export function moment(unixSeconds: number): string {
  const at = new Date(unixSeconds * 1000);
  const today = new Date().toDateString() === at.toDateString();
  const time = at.toLocaleTimeString(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit" });
  return today ? time : `${at.toLocaleDateString(undefined, { day: "numeric", month: "short" })} ${time}`;
}

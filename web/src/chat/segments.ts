/** An answer's parts: text, what the calculator was asked and said, and thoughts. The markers are literal in the text. */

export type Segment =
  | { kind: "text"; text: string }
  /** `result` is null until it is there; `open` says that more may come. */
  | { kind: "tool"; expression: string; result: string | null; open: boolean }
  | { kind: "thoughts"; text: string; open: boolean };

const ASK = ["<|python_start|>", "<|python_end|>"] as const;
const SAY = ["<|output_start|>", "<|output_end|>"] as const;
const THINK = ["<think>", "</think>"] as const;

export function segments(text: string): Segment[] {
  const found: Segment[] = [];
  let from = 0;
  for (;;) {
    const [at, pair] = next(text, from);
    if (!pair) {
      push(found, withoutPart(text.slice(from)));
      return found;
    }
    push(found, text.slice(from, at));
    const inside = at + pair[0].length;
    const end = text.indexOf(pair[1], inside);
    const open = end < 0;
    const body = open ? withoutPart(text.slice(inside)) : text.slice(inside, end);
    from = open ? text.length : end + pair[1].length;
    take(found, pair, body, open);
  }
}

/** The marker that comes first. */
function next(text: string, from: number): [number, readonly [string, string] | null] {
  let first: [number, readonly [string, string] | null] = [Infinity, null];
  for (const pair of [ASK, SAY, THINK]) {
    const at = text.indexOf(pair[0], from);
    if (at >= 0 && at < first[0]) {
      first = [at, pair];
    }
  }
  return first;
}

function take(found: Segment[], pair: readonly [string, string], body: string, open: boolean): void {
  if (pair === THINK) {
    found.push({ kind: "thoughts", text: body, open });
    return;
  }
  const last = found.at(-1);
  if (pair === ASK) {
    found.push({ kind: "tool", expression: body, result: null, open: true });
  } else if (last?.kind === "tool" && last.result === null) {
    // The result belongs to what was asked right before it.
    last.result = body;
    last.open = open;
  } else {
    found.push({ kind: "tool", expression: "", result: body, open });
  }
}

function push(found: Segment[], text: string): void {
  if (text.trim()) {
    found.push({ kind: "text", text });
  }
}

/** Without a marker that has only begun to come. */
function withoutPart(text: string): string {
  const at = text.lastIndexOf("<");
  const tail = at < 0 ? "" : text.slice(at);
  const isPart = tail !== "" && [...ASK, ...SAY, ...THINK].some((marker) => marker.length > tail.length && marker.startsWith(tail));
  return isPart ? text.slice(0, at) : text;
}

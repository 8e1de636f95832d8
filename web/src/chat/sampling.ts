/** How answers are drawn: the reader's choices, kept in this browser. What is left open is the service's own default. */

import { signal } from "@preact/signals";

import type { Sampling } from "../server/generate";
import { recall, retain } from "../shell/kept";

export interface Choices extends Sampling {
  /** Digits, as long as the service takes them: larger than numbers hold. Empty for another one each time. */
  seed?: string;
  system?: string;
}

const STORED = "samosa.sampling";

export const choices = signal<Choices>(stored());

function stored(): Choices {
  try {
    const found: unknown = JSON.parse(recall("localStorage", STORED) ?? "{}");
    return checked(found);
  } catch {
    return {};
  }
}

/** Only what is of the right kind: the browser's store is not ours alone. */
function checked(found: unknown): Choices {
  const fields = (typeof found === "object" && found !== null ? found : {}) as Record<string, unknown>;
  const kept: Choices = {};
  for (const name of ["temperature", "top_k", "max_tokens"] as const) {
    const value = fields[name];
    if (typeof value === "number" && Number.isFinite(value)) {
      kept[name] = value;
    }
  }
  for (const name of ["seed", "system"] as const) {
    const value = fields[name];
    if (typeof value === "string" && value !== "") {
      kept[name] = value;
    }
  }
  return kept;
}

/** Chooses; `undefined` or nothing leaves it to the service. */
export function prefer<Name extends keyof Choices>(name: Name, value: Choices[Name] | undefined): void {
  const next = { ...choices.value };
  if (value === undefined || value === "") {
    delete next[name];
  } else {
    next[name] = value;
  }
  choices.value = next;
  retain("localStorage", STORED, JSON.stringify(next));
}

export function defaults(): void {
  choices.value = {};
  retain("localStorage", STORED, null);
}

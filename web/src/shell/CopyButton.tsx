/** Copies a text, and says so for a moment. */

import { useSignal } from "@preact/signals";

import { Icon } from "./Icon";

const SAID_MS = 1600;

export function CopyButton({ name, text, children }: { name: string; text: string; children?: string }) {
  const done = useSignal<"" | "copied" | "not copied">("");
  const copy = async () => {
    done.value = (await write(text)) ? "copied" : "not copied";
    setTimeout(() => (done.value = ""), SAID_MS);
  };
  return (
    <button class={`button quiet small ${children ? "" : "icon"}`} type="button" onClick={copy} aria-label={done.value ? `${name}: ${done.value}` : name} title={name}>
      <Icon name={done.value === "copied" ? "check" : "copy"} size={18} />
      {children && <span>{done.value || children}</span>}
    </button>
  );
}

/** The clipboard is for https and loopback; elsewhere the old way does. */
async function write(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = document.createElement("textarea");
    area.value = text;
    area.className = "visually-hidden";
    document.body.append(area);
    area.select();
    const copied = document.execCommand("copy");
    area.remove();
    return copied;
  }
}

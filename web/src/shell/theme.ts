/** Light or dark: the system's choice until somebody makes their own. */

import { effect, signal } from "@preact/signals";

import { recall, retain } from "./kept";

export type Theme = "system" | "light" | "dark";

const STORED = "samosa.theme";
const THEMES: Theme[] = ["system", "light", "dark"];
const system = matchMedia("(prefers-color-scheme: dark)");

export const theme = signal<Theme>(THEMES.find((one) => one === recall("localStorage", STORED)) ?? "system");
/** Which of the two is seen. */
export const shown = signal<"light" | "dark">("light");

const systemIsDark = signal(system.matches);
system.addEventListener("change", () => {
  systemIsDark.value = system.matches;
});

effect(() => {
  const isDark = theme.value === "dark" || (theme.value === "system" && systemIsDark.value);
  shown.value = isDark ? "dark" : "light";
  document.documentElement.dataset["theme"] = shown.value;
});

export function nextTheme(): void {
  theme.value = THEMES[(THEMES.indexOf(theme.value) + 1) % THEMES.length] ?? "system";
  retain("localStorage", STORED, theme.value);
}

/** Which view is shown, by the address's fragment: `#/`, `#/c/ID`, `#/models`, `#/live`. */

import { signal } from "@preact/signals";

export type Route = { view: "chat"; conversation: string | null } | { view: "models" } | { view: "live" };

export const route = signal<Route>(parse(location.hash));

/** Whatever is no place of this page is the chat; a key is one of these, and may hold anything. */
function parse(hash: string): Route {
  if (!hash.startsWith("#/")) {
    return { view: "chat", conversation: null };
  }
  const [, first, second] = hash.split("/");
  if (first === "models" || first === "live") {
    return { view: first };
  }
  return { view: "chat", conversation: (first === "c" && second) || null };
}

/** Where the chat was left. */
export const lastChat = signal("#/");

export function go(hash: string): void {
  location.hash = hash;
  follow();
}

function follow(): void {
  route.value = parse(location.hash);
  if (route.value.view === "chat") {
    // This becomes a link: a fragment with a key must not.
    lastChat.value = location.hash.startsWith("#/") ? location.hash : "#/";
  }
}

follow();

addEventListener("hashchange", follow);

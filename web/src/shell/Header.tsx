/** What every view has above it: where one is, what serves, and how the page looks. */

import type { Route } from "./route";
import { lastChat, route } from "./route";
import { Icon, type IconName } from "./Icon";
import { Mark } from "./Mark";
import { nextTheme, theme, type Theme } from "./theme";
import { away, health, model } from "../server/pulse";
import { keep } from "../server/key";

const VIEWS: { view: Route["view"]; name: string; href: string; icon: IconName }[] = [
  { view: "chat", name: "Chat", href: "#/", icon: "chat" },
  { view: "models", name: "Models", href: "#/models", icon: "models" },
  { view: "live", name: "Live", href: "#/live", icon: "live" },
];

const THEMES: Record<Theme, { name: string; icon: IconName }> = {
  system: { name: "as the system", icon: "half" },
  light: { name: "light", icon: "sun" },
  dark: { name: "dark", icon: "moon" },
};

/** `page` is the file that shows it: views live in the first one, the API in the other. */
export function Header({ page }: { page: "index" | "docs" }) {
  const { name, icon } = THEMES[theme.value];
  const base = page === "docs" ? "./" : "";
  return (
    <header class="header">
      <a class="brand" href={`${base}#/`} aria-label="samosaChaat, to the chat">
        <Mark />
        <span>samosaChaat</span>
      </a>
      <nav class="views" aria-label="Views">
        {VIEWS.map(({ view, name, href, icon }) => (
          <a key={view} href={base + (view === "chat" && page === "index" ? lastChat.value : href)} aria-current={page === "index" && route.value.view === view ? "page" : undefined}>
            <Icon name={icon} />
            <span>{name}</span>
          </a>
        ))}
        <a href="docs" aria-current={page === "docs" ? "page" : undefined}>
          <Icon name="book" />
          <span>API</span>
        </a>
      </nav>
      <div class="side">
        <Serving href={`${base}#/models`} />
        <button class="button icon quiet" type="button" onClick={nextTheme} aria-label={`Colours: ${name}. Change`} title={`Colours: ${name}`}>
          <Icon name={icon} />
        </button>
        <button class="button icon quiet" type="button" onClick={() => keep("")} aria-label="Forget the key" title="Forget the key">
          <Icon name="key" />
        </button>
      </div>
    </header>
  );
}

/** The model that serves, or why none does. */
function Serving({ href }: { href: string }) {
  const { tone, text } = condition();
  return (
    <a class="serving" href={href} title={health.value?.reason ?? text}>
      <i class={`dot ${tone}`} aria-hidden="true" />
      <span class="visually-hidden">Serving: </span>
      <span>{text}</span>
    </a>
  );
}

function condition(): { tone: string; text: string } {
  if (away.value) {
    return { tone: "bad", text: "not reachable" };
  }
  if (!health.value) {
    return { tone: "", text: "…" };
  }
  const { status } = health.value;
  const text = model.value ?? (status === "loading" ? "loading" : "no model");
  const tone = status === "ok" ? "good" : status === "loading" ? "busy" : "bad";
  return { tone, text: status === "ok" || !model.value ? text : `${text} · ${status}` };
}

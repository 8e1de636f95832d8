/** All conversations of this browser: to open, name, delete, take along. */

import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";

import { Icon } from "../shell/Icon";
import { go } from "../shell/route";
import { writingIn } from "./answering";
import type { Conversation } from "./conversation";
import { exportAll, importFile } from "./files";
import { amend, begin, conversations, current, ready, remove } from "./store";

const DAY_MS = 86_400_000;

export function Conversations({ chose }: { chose: () => void }) {
  const groups = byDay(conversations.value);
  return (
    <nav class="conversations" aria-label="Conversations">
      <button
        class="button primary"
        type="button"
        onClick={() => {
          begin();
          chose();
          document.querySelector<HTMLElement>(".composer textarea")?.focus();
        }}
      >
        <Icon name="plus" size={18} /> New chat
      </button>
      <div class="list">
        {ready.value && groups.length === 0 && <p class="soft small">What you talk about is kept here, in this browser alone.</p>}
        {groups.map(([day, list]) => (
          <section key={day}>
            <h2>{day}</h2>
            <ul>
              {list.map((one) => (
                <Row key={one.id} conversation={one} chose={chose} />
              ))}
            </ul>
          </section>
        ))}
      </div>
      <Files />
    </nav>
  );
}

function Row({ conversation, chose }: { conversation: Conversation; chose: () => void }) {
  const { id, title } = conversation;
  const doing = useSignal<"" | "naming" | "deleting">("");
  const isCurrent = current.value.id === id;
  if (doing.value === "naming") {
    return <Naming conversation={conversation} close={() => (doing.value = "")} />;
  }
  if (doing.value === "deleting") {
    return <Deleting id={id} close={() => (doing.value = "")} />;
  }
  return (
    <li class={isCurrent ? "current" : ""}>
      <a href={`#/c/${id}`} aria-current={isCurrent ? "page" : undefined} onClick={chose} title={title}>
        {writingIn(id) && <i class="dot busy" role="img" aria-label="being answered" />}
        <span>{title}</span>
      </a>
      <button class="button quiet small icon" type="button" onClick={() => (doing.value = "naming")} aria-label={`Rename ${title}`} title="Rename">
        <Icon name="edit" size={16} />
      </button>
      <button class="button quiet small icon" type="button" onClick={() => (doing.value = "deleting")} aria-label={`Delete ${title}`} title="Delete">
        <Icon name="bin" size={16} />
      </button>
    </li>
  );
}

function Naming({ conversation, close }: { conversation: Conversation; close: () => void }) {
  const field = useRef<HTMLInputElement>(null);
  useEffect(() => field.current?.select(), []);
  const name = (event: Event) => {
    event.preventDefault();
    const title = field.current?.value.trim().slice(0, 200);
    if (title) {
      amend(conversation.id, (one) => ({ ...one, title, named: true }));
    }
    close();
  };
  return (
    <li class="doing">
      <form onSubmit={name} onKeyDown={(event) => event.key === "Escape" && close()}>
        <input ref={field} class="input" aria-label="Title" value={conversation.title} maxLength={200} />
        <button class="button small icon" type="submit" aria-label="Keep the title">
          <Icon name="check" size={18} />
        </button>
      </form>
    </li>
  );
}

function Deleting({ id, close }: { id: string; close: () => void }) {
  const keep = useRef<HTMLButtonElement>(null);
  useEffect(() => keep.current?.focus(), []);
  const drop = () => {
    writingIn(id)?.stop();
    void remove(id);
    if (current.value.id === id || !conversations.value.some((one) => one.id === current.value.id)) {
      go("#/");
    }
    document.querySelector<HTMLElement>(".composer textarea")?.focus();
  };
  return (
    <li class="doing" onKeyDown={(event) => event.key === "Escape" && close()}>
      <span>Delete it?</span>
      <button ref={keep} class="button small" type="button" onClick={close}>
        Keep
      </button>
      <button class="button small danger" type="button" onClick={drop}>
        Delete
      </button>
    </li>
  );
}

function Files() {
  const said = useSignal("");
  const field = useRef<HTMLInputElement>(null);
  const take = async () => {
    const file = field.current?.files?.[0];
    if (file && field.current) {
      said.value = await importFile(file);
      field.current.value = "";
    }
  };
  return (
    <div class="files">
      <button class="button quiet small" type="button" onClick={exportAll} disabled={conversations.value.length === 0}>
        <Icon name="out" size={18} /> Export all
      </button>
      <button class="button quiet small" type="button" onClick={() => field.current?.click()}>
        <Icon name="in" size={18} /> Import
      </button>
      <input ref={field} class="visually-hidden" type="file" accept="application/json,.json" aria-label="File to import" tabIndex={-1} onChange={take} />
      <p class="small soft" role="status">
        {said.value}
      </p>
    </div>
  );
}

/** Conversations under the day on which they were changed last. */
function byDay(all: Conversation[]): [string, Conversation[]][] {
  const midnight = new Date().setHours(0, 0, 0, 0);
  const day = ({ changed }: Conversation) =>
    changed >= midnight
      ? "Today"
      : changed >= midnight - DAY_MS
        ? "Yesterday"
        : changed >= midnight - 6 * DAY_MS
          ? "This week"
          : new Date(changed).toLocaleDateString(undefined, { month: "long", year: "numeric" });
  const groups = new Map<string, Conversation[]>();
  for (const conversation of all) {
    const name = day(conversation);
    groups.set(name, [...(groups.get(name) ?? []), conversation]);
  }
  return [...groups];
}

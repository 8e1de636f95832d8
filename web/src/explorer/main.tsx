import "../design.css";
import "../shell/shell.css";
import "./explorer.css";

import { signal } from "@preact/signals";
import { render } from "preact";
import { useEffect } from "preact/hooks";

import { ask } from "../server/ask";
import { key } from "../server/key";
import { follow } from "../server/pulse";
import { Header } from "../shell/Header";
import { KeyDialog } from "../shell/KeyDialog";
import { type Document, operations } from "./document";
import { OperationView } from "./OperationView";
import { wantsKey } from "./trying";

interface Part {
  title: string;
  document: Document;
}

const parts = signal<Part[]>([]);
const trouble = signal("");
const filter = signal("");

async function load(): Promise<void> {
  try {
    const read = async (route: string) => (await ask(route)).json() as Promise<Document>;
    const [own, openai] = await Promise.all([read("/openapi.json"), read("/openai.json")]);
    parts.value = [
      { title: "The service", document: own },
      { title: "OpenAI's API", document: openai },
    ];
  } catch (error) {
    trouble.value = error instanceof Error ? error.message : String(error);
  }
}

function Explorer() {
  const isReady = parts.value.length > 0;
  useEffect(() => {
    // The place that the address names is there only now.
    document.getElementById(location.hash.slice(1))?.scrollIntoView();
  }, [isReady]);
  return (
    <>
      <Header page="docs" />
      <main id="content" class="explorer" tabIndex={-1}>
        <nav class="operations" aria-label="Operations">
          <input class="input" type="search" placeholder="Filter" aria-label="Filter operations" value={filter.value} onInput={(event) => (filter.value = event.currentTarget.value)} />
          {parts.value.map(({ title, document }) => (
            <section key={title}>
              <h2>{title}</h2>
              <ul>
                {matching(document).map(({ id, method, path }) => (
                  <li key={id}>
                    <a href={`#${id}`}>
                      <span class={`method ${method}`}>{method}</span>
                      <span>{path}</span>
                    </a>
                  </li>
                ))}
              </ul>
            </section>
          ))}
        </nav>
        <div class="explained">
          <h1>The API</h1>
          <p class="soft">
            Everything that this service answers, read from its own contracts (<a href="openapi.json">openapi.json</a>, <a href="openai.json">openai.json</a>). Try it asks the service that shows you this page, with the key of this tab.
          </p>
          {trouble.value && (
            <p class="notice" role="alert">
              {trouble.value}
            </p>
          )}
          {parts.value.map(({ title, document }) => (
            <section key={title} aria-label={title}>
              {matching(document).map((operation) => (
                <OperationView key={operation.id} document={document} operation={operation} />
              ))}
            </section>
          ))}
        </div>
      </main>
      <KeyDialog isWanted={wantsKey.value && !key.value} close={() => (wantsKey.value = false)} />
    </>
  );
}

function matching(document: Document) {
  const wanted = filter.value.trim().toLowerCase();
  return operations(document).filter(({ method, path, summary }) => `${method} ${path} ${summary}`.toLowerCase().includes(wanted));
}

const root = document.getElementById("app");
if (root) {
  render(<Explorer />, root);
}
follow();
void load();

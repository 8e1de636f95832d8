import "./design.css";
import "./shell/shell.css";

import { render } from "preact";
import { useEffect } from "preact/hooks";

import { ChatView } from "./chat/ChatView";
import { LiveView } from "./live/LiveView";
import { ModelsView } from "./models/ModelsView";
import { key } from "./server/key";
import { follow } from "./server/pulse";
import { Guarded } from "./shell/Guarded";
import { Header } from "./shell/Header";
import { KeyDialog } from "./shell/KeyDialog";
import { route } from "./shell/route";

const TITLES = { chat: "samosaChaat", models: "Models · samosaChaat", live: "Live · samosaChaat" };

function App() {
  const { view } = route.value;
  useEffect(() => {
    document.title = TITLES[view];
  }, [view]);
  return (
    <>
      <a class="button skip" href="#content" onClick={(event) => (event.preventDefault(), document.getElementById("content")?.focus())}>
        To the content
      </a>
      <Header page="index" />
      <main id="content" tabIndex={-1} data-view={view}>
        <Guarded of={view}>
          {view === "chat" && <ChatView />}
          {view === "models" && <ModelsView />}
          {view === "live" && <LiveView />}
        </Guarded>
      </main>
      <KeyDialog isWanted={!key.value} />
    </>
  );
}

const root = document.getElementById("app");
if (root) {
  render(<App />, root);
}
follow();

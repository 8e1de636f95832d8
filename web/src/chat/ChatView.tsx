/** The chat: conversations at the side (in a drawer where there is no side), the one in front beside them. */

import "./chat.css";

import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";

import { Guarded } from "../shell/Guarded";
import { Icon } from "../shell/Icon";
import { Conversations } from "./Conversations";
import { current, open, ready } from "./store";
import { Talk } from "./Talk";

export function ChatView() {
  const drawer = useRef<HTMLDialogElement>(null);
  const isNarrow = useNarrow();
  useEffect(() => {
    if (!ready.value) {
      void open();
    }
  }, []);
  return (
    <div class="chat">
      {isNarrow ? (
        <>
          <button class="button quiet small drawer-opener" type="button" onClick={() => drawer.current?.showModal()}>
            <Icon name="menu" size={18} /> Conversations
          </button>
          <dialog ref={drawer} class="drawer" aria-label="Conversations" onClick={(event) => event.target === drawer.current && drawer.current?.close()}>
            <button class="button quiet icon close" type="button" onClick={() => drawer.current?.close()} aria-label="Close">
              <Icon name="close" />
            </button>
            <Conversations chose={() => drawer.current?.close()} />
          </dialog>
        </>
      ) : (
        <aside>
          <Conversations chose={() => undefined} />
        </aside>
      )}
      {ready.value && (
        <Guarded of={current.value.id}>
          <Talk conversation={current.value} />
        </Guarded>
      )}
    </div>
  );
}

/** Whether there is no room at the side. */
function useNarrow(): boolean {
  const query = useRef(matchMedia("(max-width: 860px)"));
  const isNarrow = useSignal(query.current.matches);
  useEffect(() => {
    const { current } = query;
    const follow = () => (isNarrow.value = current.matches);
    current.addEventListener("change", follow);
    return () => current.removeEventListener("change", follow);
  }, []);
  return isNarrow.value;
}

/** Where a turn has siblings: which of them is shown, and a way to the others. */

import { Icon } from "../shell/Icon";
import { type Conversation, choose, followers, type Turn } from "./conversation";
import { amend } from "./store";

export function Versions({ conversation, turn }: { conversation: Conversation; turn: Turn }) {
  const versions = followers(conversation, turn.parent);
  const at = versions.findIndex((one) => one.id === turn.id);
  if (versions.length < 2) {
    return null;
  }
  const show = (step: number) => {
    const other = versions[at + step];
    if (other) {
      amend(conversation.id, (one) => choose(one, other));
    }
  };
  return (
    <div class="versions figures">
      <button class="button quiet small icon" type="button" onClick={() => show(-1)} disabled={at === 0} aria-label="Previous version">
        <Icon name="left" size={18} />
      </button>
      <span>
        {at + 1} of {versions.length}
      </span>
      <button class="button quiet small icon" type="button" onClick={() => show(1)} disabled={at === versions.length - 1} aria-label="Next version">
        <Icon name="right" size={18} />
      </button>
    </div>
  );
}

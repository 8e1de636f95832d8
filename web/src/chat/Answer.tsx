/** One answer: its text as it comes, what can be done with it, and its figures. */

import { CopyButton } from "../shell/CopyButton";
import { Icon } from "../shell/Icon";
import { Mark } from "../shell/Mark";
import { number } from "../shell/words";
import { AnswerFigures } from "./AnswerFigures";
import { AnswerText } from "./AnswerText";
import { again, type Writing, writingOf } from "./answering";
import type { Conversation, Turn } from "./conversation";
import { FaultNotice } from "./FaultNotice";
import { isWrittenElsewhere } from "./store";
import { Versions } from "./Versions";

export function Answer({ conversation, turn, isBusy }: { conversation: Conversation; turn: Turn; isBusy: boolean }) {
  const writing = writingOf(turn.id);
  const text = writing ? writing.text.value : turn.text;
  const repeat = () => void again(conversation.id, turn);
  return (
    <article class="turn answer" aria-label="Answer" aria-busy={writing !== undefined}>
      <div class="who" aria-hidden="true">
        <Mark size={22} />
      </div>
      <div class="body">
        <AnswerText text={text} />
        {writing && <Progress writing={writing} hasText={text !== ""} />}
        {turn.standing === "stopped" && <p class="remark">Stopped{text === "" && " before the first word"}.</p>}
        {turn.standing === "cut" && <p class="remark">{isWrittenElsewhere(conversation.id, turn.id) ? "Being written in another tab." : "Cut off when the page was left."}</p>}
        {turn.fault && <FaultNotice fault={turn.fault} isBusy={isBusy} again={repeat} />}
        {!writing && (
          <footer>
            <Versions conversation={conversation} turn={turn} />
            {text !== "" && <CopyButton name="Copy answer" text={text} />}
            <button class="button quiet small icon" type="button" onClick={repeat} disabled={isBusy} aria-label="Regenerate" title="Regenerate">
              <Icon name="again" size={18} />
            </button>
            {turn.figures && <AnswerFigures figures={turn.figures} />}
          </footer>
        )}
      </div>
    </article>
  );
}

function Progress({ writing, hasText }: { writing: Writing; hasText: boolean }) {
  const { firstAt, tokens } = writing;
  const seconds = firstAt === null ? 0 : (performance.now() - firstAt) / 1000;
  return (
    <p class={`progress figures ${hasText ? "" : "waiting"}`} aria-hidden="true">
      <i />
      <i />
      <i />
      {seconds > 0.5 && <span>{number(Math.round(tokens.value / seconds))} tokens/s</span>}
    </p>
  );
}

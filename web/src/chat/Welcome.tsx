/** What is there before anything was said. */

import { model } from "../server/pulse";
import { Mark } from "../shell/Mark";
import { sendIn } from "./Composer";
import type { Conversation } from "./conversation";

const SUGGESTIONS = ["What is samosa chaat?", "What is 12 * 7?", "Tell me a story about a little bird.", "How does bread rise?"];

export function Welcome({ conversation }: { conversation: Conversation }) {
  return (
    <div class="welcome">
      <Mark size={72} />
      <h1>What shall we talk about?</h1>
      <p class="soft">{model.value ? `${model.value} is listening.` : "No model serves right now; the Models view says why."} What you say stays between this browser and the service.</p>
      <ul aria-label="Things to ask">
        {SUGGESTIONS.map((text) => (
          <li key={text}>
            <button class="button" type="button" onClick={() => void sendIn(conversation, text)}>
              {text}
            </button>
          </li>
        ))}
      </ul>
    </div>
  );
}

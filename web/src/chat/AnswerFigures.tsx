/** How fast an answer came, and what it was made of. */

import { counted, duration, group, number } from "../shell/words";
import type { Figures } from "./conversation";

export function AnswerFigures({ figures }: { figures: Figures }) {
  const { tokens_per_second, first_ms, completion_tokens, prompt_tokens, cached_tokens, dropped_messages, shortened_messages } = figures;
  return (
    <details class="answer-figures figures">
      <summary>
        {tokens_per_second !== null && <span>{number(tokens_per_second)} tokens/s</span>}
        <span>first after {duration(first_ms)}</span>
        {cached_tokens > 0 && <span>{group(cached_tokens)} cached</span>}
        {dropped_messages > 0 && <span class="warn">{counted(dropped_messages, "message")} dropped</span>}
        {shortened_messages > 0 && <span class="warn">{counted(shortened_messages, "message")} shortened</span>}
        {figures.finish_reason === "length" && <span class="warn">cut at {counted(completion_tokens, "token")}</span>}
      </summary>
      <dl>
        <dt>Model</dt>
        <dd>{figures.model_tag}</dd>
        <dt>Weights</dt>
        <dd class="mono">{figures.weights.slice(0, 12)}</dd>
        <dt>Answer</dt>
        <dd>{counted(completion_tokens, "token")}</dd>
        <dt>Prompt</dt>
        <dd>
          {counted(prompt_tokens, "token")}, {group(cached_tokens)} of them remembered
        </dd>
        <dt>Seed</dt>
        <dd class="mono">{figures.seed}</dd>
      </dl>
      {dropped_messages > 0 && <p>The conversation is longer than the model's context: the oldest messages were left out.</p>}
      {shortened_messages > 0 && <p>Answers longer than a message may be were sent without their middle.</p>}
      {figures.finish_reason === "length" && <p>The answer ended at the longest length that was asked for or that the context holds.</p>}
    </details>
  );
}

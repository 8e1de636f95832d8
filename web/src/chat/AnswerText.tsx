/** What a model wrote: Markdown, cards of what the calculator did, thoughts folded away. */

import { Icon } from "../shell/Icon";
import { Prose } from "./Prose";
import { type Segment, segments } from "./segments";

export function AnswerText({ text }: { text: string }) {
  return <>{segments(text).map((segment, i) => draw(segment, i))}</>;
}

function draw(segment: Segment, i: number) {
  switch (segment.kind) {
    case "text":
      return <Prose key={`text ${i}`} text={segment.text} />;
    case "tool":
      return <Tool key={`tool ${i}`} {...segment} />;
    case "thoughts":
      return <Thoughts key={`thoughts ${i}`} {...segment} />;
  }
}

function Tool({ expression, result, open }: { expression: string; result: string | null; open: boolean }) {
  return (
    <div class="tool" role="group" aria-label="Calculator">
      <Icon name="abacus" />
      <code>{expression || "…"}</code>
      <span class="soft" aria-hidden="true">
        =
      </span>
      <output>{result ?? (open ? "…" : "no result")}</output>
    </div>
  );
}

function Thoughts({ text, open }: { text: string; open: boolean }) {
  return (
    <details class="thoughts">
      <summary>
        <Icon name="think" /> <span>{open ? "Thoughts, being written…" : "Thoughts"}</span>
      </summary>
      <Prose text={text} />
    </details>
  );
}

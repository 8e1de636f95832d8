/** Markdown as it grows. A block that is settled is drawn once. */

import type { VNode } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";

import { CopyButton } from "../shell/CopyButton";
import { type Block, Blocks } from "./markdown";
import { safe } from "./safe";

export function Prose({ text }: { text: string }) {
  const [blocks] = useState(() => new Blocks());
  const [drawn] = useState(() => new WeakMap<Block, VNode>());
  const draw = (block: Block, i: number) => {
    const before = drawn.get(block);
    if (before) {
      return before;
    }
    const node = block.kind === "code" ? <Code key={i} language={block.language} text={block.text} /> : <Html key={i} html={block.html} />;
    drawn.set(block, node);
    return node;
  };
  return <div class="prose">{blocks.of(text).map(draw)}</div>;
}

function Html({ html }: { html: string }) {
  const box = useRef<HTMLDivElement>(null);
  // A wide table scrolls by itself, and by keyboard.
  useEffect(() => box.current?.querySelectorAll("pre, table").forEach((wide) => wide.setAttribute("tabindex", "0")), [html]);
  return <div ref={box} class="block" dangerouslySetInnerHTML={{ __html: safe(html) }} />;
}

function Code({ language, text }: { language: string; text: string }) {
  return (
    <figure class="block code">
      <figcaption>
        <span>{language || "text"}</span>
        <CopyButton name="Copy code" text={text} />
      </figcaption>
      <pre tabIndex={0}>
        <code>{text}</code>
      </pre>
    </figure>
  );
}

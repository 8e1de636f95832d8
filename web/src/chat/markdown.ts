/** Markdown to blocks of HTML, a block at a time, so that a long answer is not read again for every token. What makes the HTML
    safe is `safe.ts`. */

import { Marked, type Token, type Tokens } from "marked";

export type Block = { kind: "code"; raw: string; language: string; text: string } | { kind: "html"; raw: string; html: string };

/** Blocks at the end that what comes next may still change. */
const UNSETTLED = 2;

const reader = new Marked({ gfm: true, breaks: true });
reader.use({
  renderer: {
    // What looks like HTML is text that the model wrote.
    html: ({ text }: Tokens.HTML | Tokens.Tag) => escape(text),
    // Nothing is fetched for an answer, not even a picture: an address can carry away what was said.
    image: ({ href, text }: Tokens.Image) => `<a href="${escape(href)}">${escape(text || href)}</a>`,
  },
});

/** The blocks of a text that grows. */
export class Blocks {
  private text = "";
  private settled: Block[] = [];
  private settledTo = 0;

  /** All blocks of the text as it is now. Settled ones are the same objects each time. */
  of(text: string): Block[] {
    try {
      return this.read(text);
    } catch {
      // A thousand quotes in each other are deeper than the reader goes; a small model writes them.
      return [{ kind: "code", raw: text, language: "", text }];
    }
  }

  private read(text: string): Block[] {
    const now = text.replaceAll("\r", "");
    if (!now.startsWith(this.text.slice(0, this.settledTo))) {
      this.settled = [];
      this.settledTo = 0;
    }
    this.text = now;
    const tokens = reader.lexer(now.slice(this.settledTo)).filter((token) => token.raw !== "");
    const solid = tokens.filter((token) => token.type !== "space").length;
    let toSettle = solid - UNSETTLED;
    const rest: Block[] = [];
    for (const token of tokens) {
      if (toSettle > 0) {
        this.settledTo += token.raw.length;
      }
      if (token.type === "space") {
        continue;
      }
      (toSettle > 0 ? this.settled : rest).push(block(token));
      toSettle -= 1;
    }
    return [...this.settled, ...rest];
  }
}

function block(token: Token): Block {
  if (token.type === "code") {
    const { raw, lang, text } = token as Tokens.Code;
    return { kind: "code", raw, language: (lang ?? "").split(/\s/)[0] ?? "", text };
  }
  return { kind: "html", raw: token.raw, html: reader.parser([token]) };
}

function escape(text: string): string {
  return text.replace(/[&<>"']/g, (sign) => `&#${sign.charCodeAt(0)};`);
}

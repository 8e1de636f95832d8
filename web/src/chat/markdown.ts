/** Markdown to blocks of safe HTML, a block at a time, so that a long answer is not read again for every token. */

import DOMPurify from "dompurify";
import { Marked, type Token, type Tokens } from "marked";

export type Block = { kind: "code"; raw: string; language: string; text: string } | { kind: "html"; raw: string; html: string };

/** Blocks at the end that what comes next may still change. */
const UNSETTLED = 2;

const ALLOWED_TAGS =
  "a b blockquote br code del em h1 h2 h3 h4 h5 h6 hr i input li ol p pre s span strong sub sup table tbody td th thead tr ul".split(" ");
const ALLOWED_ATTR = ["href", "title", "start", "align", "type", "checked", "disabled", "target", "rel", "class"];
const WEB = /^(https?:|mailto:)/i;

const reader = new Marked({ gfm: true, breaks: true });
reader.use({
  renderer: {
    // What looks like HTML is text that the model wrote.
    html: ({ text }: Tokens.HTML | Tokens.Tag) => escape(text),
    // Nothing is fetched for an answer, not even a picture: an address can carry away what was said.
    image: ({ href, text }: Tokens.Image) => `<a href="${escape(href)}">${escape(text || href)}</a>`,
  },
});

DOMPurify.addHook("afterSanitizeAttributes", (node) => {
  if (node.tagName === "A") {
    if (!WEB.test(node.getAttribute("href") ?? "")) {
      node.removeAttribute("href");
    }
    node.setAttribute("target", "_blank");
    node.setAttribute("rel", "noopener noreferrer");
  }
});

/** The blocks of a text that grows. */
export class Blocks {
  private text = "";
  private settled: Block[] = [];
  private settledTo = 0;

  /** All blocks of the text as it is now. Settled ones are the same objects each time. */
  of(text: string): Block[] {
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

/** HTML that a page may hold; where browsers ask for proof of that, with it. */
export function safe(html: string): string {
  const clean = DOMPurify.sanitize(html, { ALLOWED_TAGS, ALLOWED_ATTR, ALLOW_DATA_ATTR: false, RETURN_TRUSTED_TYPE: true });
  // What takes it takes strings too, and the type of one is not known to all.
  return clean as unknown as string;
}

function escape(text: string): string {
  return text.replace(/[&<>"']/g, (sign) => `&#${sign.charCodeAt(0)};`);
}

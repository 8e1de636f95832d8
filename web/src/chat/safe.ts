/** From HTML of strangers to HTML that a page may hold. */

import DOMPurify from "dompurify";

const ALLOWED_TAGS =
  "a b blockquote br code del em h1 h2 h3 h4 h5 h6 hr i input li ol p pre s span strong sub sup table tbody td th thead tr ul".split(" ");
const ALLOWED_ATTR = ["href", "title", "start", "align", "type", "checked", "disabled"];
const WEB = /^(https?:|mailto:)/i;

DOMPurify.addHook("afterSanitizeAttributes", (node) => {
  if (node.tagName === "A") {
    if (!WEB.test(node.getAttribute("href") ?? "")) {
      node.removeAttribute("href");
    }
    node.setAttribute("target", "_blank");
    node.setAttribute("rel", "noopener noreferrer");
  }
});

/** What is harmless in it; where browsers ask for proof of that, with it. */
export function safe(html: string): string {
  const clean = DOMPurify.sanitize(html, { ALLOWED_TAGS, ALLOWED_ATTR, ALLOW_DATA_ATTR: false, RETURN_TRUSTED_TYPE: true });
  // What takes it takes strings too, and the type of one is not known to all.
  return clean as unknown as string;
}

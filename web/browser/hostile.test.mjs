/** What a model writes may be anything; it stays text. */

import assert from "node:assert/strict";

import { answers, say, whole } from "./support/chat.mjs";
import { scene } from "./support/scene.mjs";
import { stream } from "./support/proxy.mjs";

const VECTORS = [
  "<script>window.broken = 1</script>",
  "<img src=x onerror='window.broken = 1'>",
  "<svg onload='window.broken = 1'><script>window.broken = 1</script></svg>",
  "<iframe srcdoc='<script>parent.broken = 1</script>'></iframe>",
  "<a href='javascript:window.broken = 1'>a</a>",
  "[press me](javascript:window.broken=1)",
  "[press me](  JaVaScRiPt:window.broken=1)",
  "[press me](data:text/html,<script>window.broken=1</script>)",
  "[press me](vbscript:window.broken)",
  "![a picture](https://elsewhere.example/x.png?said=everything)",
  "![a picture](data:image/svg+xml,<svg onload=window.broken=1>)",
  '![x" onerror="window.broken=1](y)',
  "<style>body { display: none }</style>",
  "<link rel=stylesheet href=https://elsewhere.example/x.css>",
  "<form action=https://elsewhere.example><input name=q><button>go</button></form>",
  "<base href=https://elsewhere.example/>",
  "<meta http-equiv=refresh content='0;url=https://elsewhere.example'>",
  "<math><mtext></table><mglyph><style><img src=x onerror=window.broken=1>",
  "```<img src=x onerror=window.broken=1>\ncode <img src=x onerror=window.broken=1>\n```",
  "`<img src=x onerror=window.broken=1>`",
  "| <img src=x onerror=window.broken=1> |\n|---|\n| <script>window.broken=1</script> |",
  '[a]: javascript:window.broken=1 "x"\n\n[press me][a]',
  "<https://ok.example/?a=1&b=2>",
  "&lt;img src=x onerror=window.broken=1&gt;",
  "<think><img src=x onerror=window.broken=1></think>",
  "<|python_start|><img src=x onerror=window.broken=1><|python_end|><|output_start|><script>window.broken=1</script><|output_end|>",
];

scene("nothing that a model writes runs, loads or leads anywhere but to the web", { proxied: true }, async ({ page, visit, proxy }) => {
  proxy.answer = stream(VECTORS.join("\n\n"));
  await visit();
  await say(page, "Do your worst.");
  const answer = await whole(page);
  await answer.locator("summary").first().click();
  const found = await answer.locator(".body").evaluate((body) => ({
    forbidden: [...body.querySelectorAll("script, img, iframe, style, link, form, base, meta, object, embed, math")].map((node) => node.outerHTML),
    handlers: [...body.querySelectorAll("*")].flatMap((node) => [...node.attributes]).filter(({ name }) => name.startsWith("on") || name === "style").map(({ name, value }) => `${name}=${value}`),
    links: [...body.querySelectorAll("a")].map(({ href, target, rel }) => ({ href, target, rel })),
  }));
  assert.deepEqual(found.forbidden, []);
  assert.deepEqual(found.handlers, []);
  for (const { href, target, rel } of found.links) {
    assert.match(href, /^(https?:.*)?$/);
    assert.deepEqual([target, rel], ["_blank", "noopener noreferrer"]);
  }
  assert.ok(found.links.some(({ href }) => href.startsWith("https://ok.example")));
  for (const link of await answer.locator("a:not([href])").all()) {
    await link.click({ force: true });
  }
  assert.equal(await page.evaluate(() => window.broken), undefined);
  assert.equal(await answers(page).count(), 1);
});

scene("a policy stands behind that: strings become neither scripts nor HTML", { logs: [/policy: |Security Policy|Trusted/i] }, async ({ page, visit }) => {
  await visit();
  const outcomes = await page.evaluate(() => {
    const tried = (what) => {
      try {
        what();
        return "done";
      } catch (error) {
        return error.constructor.name;
      }
    };
    const box = document.createElement("div");
    const script = document.createElement("script");
    return [tried(() => (box.innerHTML = "<b>x</b>")), tried(() => (script.textContent = "window.broken = 1")), tried(() => window.trustedTypes.createPolicy("another", {}))];
  });
  assert.ok(!outcomes.includes("done"), outcomes.join());
  const fetched = await page.evaluate(() => fetch("https://elsewhere.example/").then(() => "done", () => "refused"));
  assert.equal(fetched, "refused");
});

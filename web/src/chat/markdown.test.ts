import { expect, test } from "vitest";

import { Blocks } from "./markdown";

const RICH = `# A title

Some *words* and \`code\`,
on two lines.

- one
- two

  still two
- three

1. first
2. second

| a | b |
|---|---|
| 1 | 2 |

> said

\`\`\`rust
fn main() {

    println!("<b>");
}
\`\`\`

Last words\\
with a <b>tag</b> and ![a picture](https://elsewhere.example/x.png).
`.repeat(4);

const plain = (text: string) => new Blocks().of(text);

test("growing by any step ends where reading at once does", () => {
  for (const step of [1, 7, 64]) {
    const blocks = new Blocks();
    for (let end = 0; end < RICH.length; end += step) {
      blocks.of(RICH.slice(0, end));
    }
    expect(blocks.of(RICH)).toEqual(plain(RICH));
  }
});

test("settled blocks are the same objects", () => {
  const blocks = new Blocks();
  const before = blocks.of(RICH);
  const after = blocks.of(`${RICH}\n\nmore\n\nand more`);
  expect(after.slice(0, before.length - 2).every((block, i) => block === before[i])).toBe(true);
});

test("another text begins anew", () => {
  const blocks = new Blocks();
  blocks.of(RICH);
  expect(blocks.of("short")).toEqual(plain("short"));
});

test("code is code, and a model's HTML is text", () => {
  const [code] = plain("```python x=1\nprint('<b>')\n```");
  expect(code).toMatchObject({ kind: "code", language: "python", text: "print('<b>')" });
  for (const hostile of ["<script>alert(1)</script>", "a <img src=x onerror=alert(1)> b", "<div onclick=x>y</div>"]) {
    expect(plain(hostile).map((block) => (block.kind === "html" ? block.html : "")).join("")).not.toMatch(/<(script|img|div)/);
  }
  expect(plain("![p](https://e.example/x.png)")).toMatchObject([{ html: '<p><a href="https://e.example/x.png">p</a></p>\n' }]);
});

test("what is deeper than the reader goes is shown as it is", () => {
  for (const sign of [">", "> ", "1. "]) {
    const text = sign.repeat(8000);
    expect(plain(text).map(({ raw }) => raw).join("")).toBe(text);
  }
});

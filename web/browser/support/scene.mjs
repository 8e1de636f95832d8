/** A test with a browser of its own before a real server. It fails with whatever the page says on its console, breaks of
    its policy, or asks of anybody but the server, unless the scene is about that. */

import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, test } from "node:test";

import { chromium } from "playwright-core";

import { between } from "./proxy.mjs";
import { start } from "./server.mjs";
import { CHROMIUM, KEY, OUT } from "./setup.mjs";

const ARGUMENTS = [
  "--no-sandbox",
  "--disable-gpu",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  // Nothing but loopback has an address.
  "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
];
const LIMIT_MS = 120_000;
const WAIT_MS = 30_000;

let browser;
const servers = new Map();

after(async () => {
  await browser?.close();
  await Promise.all([...servers.values()].map(async (server) => (await server).end()));
});

/** A server that the scenes of a file share. */
function shared(name, settings) {
  if (!servers.has(name)) {
    servers.set(name, start(name, settings));
  }
  return servers.get(name);
}

/** `stage.server` names it and `stage.settings` are its own; `stage.own` wants one for itself, `stage.proxied` a proxy before it;
    `stage.context` is for the browser; `stage.logs` are what the console may say;
    `stage.init` runs in every page first. */
export function scene(name, stage, play) {
  test(name, { timeout: LIMIT_MS }, async (context) => {
    browser ??= await chromium.launch({ executablePath: CHROMIUM, args: ARGUMENTS });
    const called = name.toLowerCase().replace(/[^a-z0-9]+/g, "-").slice(0, 60);
    const server = stage.own ? await start(called, stage.settings) : await shared(stage.server ?? "usual", stage.settings);
    const proxy = stage.proxied ? await between(server) : null;
    const audience = new Audience(stage, proxy ?? server);
    try {
      const visitor = await audience.enter();
      await play({ ...visitor, server, proxy, audience, said: (text) => context.diagnostic(text) });
      assert.deepEqual(audience.faults, [], "what the page did that no page may");
    } catch (error) {
      await audience.tell(called, error);
      throw error;
    } finally {
      await audience.leave();
      await proxy?.end();
      await (stage.own ? server.end() : undefined);
    }
  });
}

/** The browsers of one scene, and what is noticed in them. */
class Audience {
  faults = [];
  lines = [];
  contexts = [];

  constructor(stage, server) {
    this.stage = stage;
    this.server = server;
  }

  /** Somebody new, who has never been here, with a page in front. */
  async enter(options = {}) {
    const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, locale: "en-GB", ...this.stage.context, ...options });
    context.setDefaultTimeout(WAIT_MS);
    this.contexts.push(context);
    await context.addInitScript(() =>
      addEventListener("securitypolicyviolation", ({ violatedDirective, blockedURI }) => console.error(`policy: ${violatedDirective} ${blockedURI}`), true),
    );
    await (this.stage.init && context.addInitScript(this.stage.init));
    context.on("console", (message) => this.hear(message.type(), message.text()));
    context.on("weberror", (error) => this.hear("error", `thrown: ${error.error().stack ?? error.error()}`));
    context.on("request", (request) => this.see(request.url()));
    const page = await context.newPage();
    /** Opens an address of the server, with the key unless another fragment is given. */
    const visit = async (path = `/#key=${KEY}`) => {
      await page.goto(this.server.url + path);
      return page;
    };
    return { context, page, visit };
  }

  hear(type, text) {
    this.lines.push(`${type}: ${text}`);
    const isExpected = (this.stage.logs ?? []).some((pattern) => pattern.test(text));
    if (type === "error" && !isExpected) {
      this.faults.push(`console: ${text}`);
    }
  }

  see(url) {
    const { protocol, origin } = new URL(url);
    if (origin !== new URL(this.server.url).origin && !["data:", "blob:"].includes(protocol)) {
      this.faults.push(`a request to ${url}`);
    }
    if (url.includes(KEY)) {
      this.faults.push(`the key in the address ${url.replace(KEY, "…")}`);
    }
  }

  /** Leaves behind what helps to see why. */
  async tell(called, error) {
    writeFileSync(join(OUT, `${called}.txt`), [error.stack, ...this.lines, ...this.faults].join("\n"));
    const pages = this.contexts.flatMap((context) => context.pages());
    await Promise.all(pages.map((page, i) => page.screenshot({ path: join(OUT, `${called}-${i + 1}.png`) }).catch(() => undefined)));
  }

  leave() {
    return Promise.all(this.contexts.map((context) => context.close()));
  }
}

export { KEY };

/** The real binary on loopback, with nothing of the caller's settings but the instruction set; killed whatever happens. */

import { spawn } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { BINARY, GOLDENS, ISA, KEY, OUT } from "./setup.mjs";
import { until } from "./until.mjs";

/** Settings of servers that are not as they come. */
export const SLOW = { ISA: "scalar", COMPUTE_THREADS: "1", SPECULATION_TOKENS: "0" };
export const FULL = { ...SLOW, MAX_RUNNING_REQUESTS: "1", MAX_QUEUED_REQUESTS: "1" };

/** What serves at first. */
export const BUILT_IN = "samosa-mini";
/** What it can be swapped to: two that work, and one whose weights are not finite. */
export const OTHERS = ["g1", "g6"];
export const BROKEN = "broken";

const living = new Set();
process.on("exit", () => living.forEach((child) => child.kill("SIGKILL")));

/** Starts one and waits until it is ready. */
export async function start(name, settings = {}) {
  const folder = mkdtempSync(join(tmpdir(), "samosa-page-server-"));
  store(join(folder, "models"));
  const server = { name, folder, settings, log: join(OUT, `${name}.log`), url: "", process: null };
  await run(server, "0", KEY);
  return {
    get url() {
      return server.url;
    },
    log: () => readFileSync(server.log, "utf8"),
    /** The same server, with the same address and storage, begun anew. */
    restart: async (key = KEY) => {
      await kill(server);
      await run(server, new URL(server.url).port, key);
    },
    stop: () => kill(server),
    end: async () => {
      await kill(server);
      rmSync(folder, { recursive: true, force: true });
    },
    /** Asks it directly, beside the browser. */
    ask: (route, init = {}) => fetch(server.url + route, { ...init, headers: { "X-Internal-API-Key": KEY, "Content-Type": "application/json", ...init.headers } }),
    stats: async () => (await fetch(`${server.url}/stats`, { headers: { "X-Internal-API-Key": KEY } })).json(),
  };
}

async function run(server, port, key) {
  const begun = size(server.log);
  const output = openSync(server.log, "a");
  const env = { PORT: port, ISA, LOG_FORMAT: "json", INTERNAL_API_KEY: key, DEFAULT_MODEL_TAG: BUILT_IN, MODEL_STORAGE_PATH: join(server.folder, "models"), ...server.settings };
  server.process = spawn(BINARY, ["serve"], { cwd: server.folder, env, stdio: ["ignore", output, output] });
  living.add(server.process);
  const address = await until("the address in the server's log", () => {
    if (server.process.exitCode !== null) {
      throw new Error(`the server ended: ${readFileSync(server.log, "utf8").slice(-600)}`);
    }
    return readFileSync(server.log, "utf8").slice(begun).match(/"address":"([^"]+)"/)?.[1];
  });
  server.url = `http://${address}`;
  await until("the server to be ready", async () => (await fetch(`${server.url}/readyz`)).ok);
}

function size(path) {
  try {
    return readFileSync(path, "utf8").length;
  } catch {
    return 0;
  }
}

async function kill({ process: child }) {
  if (child.exitCode === null && child.signalCode === null) {
    const ended = new Promise((done) => child.once("exit", done));
    child.kill("SIGKILL");
    await ended;
  }
  living.delete(child);
}

/** A storage directory with the checkpoints and their tokenizer. */
function store(models) {
  mkdirSync(models, { recursive: true });
  for (const name of ["tokenizer", ...OTHERS]) {
    cpSync(join(GOLDENS, name), join(models, name), { recursive: true });
  }
  cpSync(join(GOLDENS, "g3"), join(models, BROKEN), { recursive: true });
  const weights = join(models, BROKEN, "model_000104.pt");
  const bytes = readFileSync(weights);
  // All bits set are no number in any format of weights.
  writeFileSync(weights, bytes.fill(0xff, bytes.length >> 1, (bytes.length >> 1) + 4000));
}

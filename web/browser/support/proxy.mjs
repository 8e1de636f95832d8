/** A way to a server that remembers what went along it, can be cut, and can answer questions itself. */

import http from "node:http";

/** Opens one. `proxy.answer`, where set, answers `POST /generate` in the server's place. */
export async function between(target) {
  const sockets = new Set();
  const proxy = { requests: [], answer: null, url: "" };
  let listener = null;
  let port = 0;
  const open = async () => {
    listener = http.createServer((request, response) => pass(proxy, target, request, response));
    listener.on("connection", (socket) => {
      sockets.add(socket);
      socket.on("close", () => sockets.delete(socket));
    });
    await new Promise((ready) => listener.listen(port, "127.0.0.1", ready));
    ({ port } = listener.address());
    proxy.url = `http://127.0.0.1:${port}`;
  };
  /** Whoever talks is cut off in the middle of the word, and nobody answers any more. */
  const close = async () => {
    const closed = new Promise((done) => listener.close(done));
    sockets.forEach((socket) => socket.destroy());
    await closed;
  };
  await open();
  return Object.assign(proxy, { open, close, end: () => (listener.listening ? close() : undefined) });
}

function pass(proxy, target, request, response) {
  const { method, url, headers } = request;
  proxy.requests.push({ method, url, headers });
  if (proxy.answer && method === "POST" && url === "/generate") {
    request.resume();
    request.on("end", () => proxy.answer(response));
    return;
  }
  const onward = http.request(target.url + url, { method, headers }, (answer) => {
    response.writeHead(answer.statusCode, answer.headers);
    answer.pipe(response);
    answer.on("error", () => response.destroy());
  });
  onward.on("error", () => response.destroy());
  response.on("close", () => onward.destroy());
  request.pipe(onward);
}

/** Answers with a text, a piece for a token, so many a second; ends as a server does. */
export function stream(text, { perSecond = Infinity, tag = "a-made-up-model" } = {}) {
  const tokens = text.match(/\s*\S{1,5}|\s+$/g) ?? [];
  return (response) => {
    response.writeHead(200, { "Content-Type": "text/event-stream", "Cache-Control": "no-store" });
    const began = performance.now();
    let sent = 0;
    const event = (fields) => `data: ${JSON.stringify(fields)}\n\n`;
    const go = () => {
      const due = Math.min(tokens.length, Math.ceil(((performance.now() - began) / 1000) * perSecond) || 1, sent + 500);
      response.write(tokens.slice(sent, due).map((token) => event({ token, gpu: 0 })).join(""));
      sent = Math.max(sent, due);
      if (sent < tokens.length) {
        return;
      }
      clearInterval(timer);
      response.end(event(last(tag, tokens.length, performance.now() - began)));
    };
    const timer = setInterval(go, 10);
    response.on("close", () => clearInterval(timer));
    go();
  };
}

function last(tag, tokens, ms) {
  return {
    done: true,
    finish_reason: "stop",
    model_tag: tag,
    weights: "0123456789abcdef".repeat(4),
    seed: 1,
    usage: { prompt_tokens: 10, cached_tokens: 0, completion_tokens: tokens },
    timings_ms: { queue: 0, prefill: 1, decode: ms },
  };
}

// The official `openai` package for JavaScript against the server.

import "./loopback.mjs";

import assert from "node:assert/strict";
import OpenAI from "openai";

const { SAMOSA_URL: url, SAMOSA_SLOW_URL: slowUrl, SAMOSA_KEY: apiKey } = process.env;
const model = "samosa-mini";
const options = { apiKey, timeout: 30_000, maxRetries: 0 };
const client = new OpenAI({ baseURL: `${url}/v1`, ...options });
const slow = new OpenAI({ baseURL: `${slowUrl}/v1`, ...options });
const chaat = [{ role: "user", content: "What is samosa chaat?" }];
const story = [{ role: "user", content: "Tell me a long story." }];

const chat = (fields, ...rest) => client.chat.completions.create({ model, messages: chaat, ...fields }, ...rest);
const text = async (fields) => (await chat(fields)).choices[0].message.content;
const ok = (what) => console.log(`ok  ${what}`);

function equal(what, found, ...wanted) {
  for (const each of wanted) assert.deepEqual(found, each, what);
  ok(what);
}

function check(what, fact) {
  assert.ok(fact, what);
  ok(what);
}

async function joined(stream) {
  let said = "";
  for await (const chunk of stream) said += chunk.choices[0]?.delta?.content ?? "";
  return said;
}

const headers = { Authorization: `Bearer ${apiKey}`, "Content-Type": "application/json" };

async function http(path, body, more = {}, base = url) {
  const method = body ? "POST" : "GET";
  const answer = await fetch(base + path, { method, headers: { ...headers, ...more }, body: body && JSON.stringify(body) });
  assert.equal(answer.status, 200, path);
  return answer.text();
}

// The server's own way of asking.
async function generate(messages, seed, fields) {
  const body = await http("/generate", { messages, ...fields }, { "X-Seed": `${seed}` });
  const lines = body.split("\n").filter((line) => line.startsWith("data:"));
  return lines.map((line) => JSON.parse(line.slice(5)).token ?? "").join("");
}

async function refused(what, kind, ask, members) {
  try {
    await ask();
  } catch (error) {
    check(`${what}: ${kind.name}, not ${error}`, error instanceof kind);
    for (const [name, value] of Object.entries(members)) equal(`    ${name}`, error[name], value);
    return error;
  }
  assert.fail(`${what} is not refused`);
}

async function until(what, isSo, seconds = 30) {
  const end = performance.now() + seconds * 1000;
  while (!(await isSo())) {
    assert.ok(performance.now() < end, `${what} within ${seconds} s`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  ok(what);
}

async function models() {
  const names = [];
  for await (const each of client.models.list()) names.push(each.id);
  check("the model is listed", names.includes(model));
  equal("and found by its name", (await client.models.retrieve(model)).id, model);
}

async function conversation() {
  const turns = [];
  for (const content of ["What is samosa chaat?", "Why?", "Tell me more."]) {
    const turn = { role: "user", content };
    const said = await text({ messages: [...turns, turn], temperature: 0 });
    const wanted = await generate([...turns, turn], 0, { temperature: 0 });
    equal(`turn ${turns.length / 2 + 1} says what POST /generate says: ${said.slice(0, 40)}…`, said, wanted);
    if (turns.length) check("and heeds what was said before", said !== (await text({ messages: [turn], temperature: 0 })));
    turns.push(turn, { role: "assistant", content: said });
  }
}

async function streams() {
  const whole = await chat({ temperature: 0 });
  const said = whole.choices[0].message.content;
  equal("usage adds up", whole.usage.prompt_tokens + whole.usage.completion_tokens, whole.usage.total_tokens);
  equal("for await says what a whole answer says", await joined(await chat({ temperature: 0, stream: true })), said);
  const counted = await chat({ temperature: 0, stream: true, stream_options: { include_usage: true } });
  let last;
  for await (const chunk of counted) last = chunk;
  equal("usage comes last", last.usage, { ...whole.usage, prompt_tokens_details: last.usage.prompt_tokens_details });
  const gathered = client.chat.completions.stream({ model, messages: chaat, temperature: 0 });
  equal("the client's own gathering says it too", await gathered.finalContent(), said);
}

async function seeds() {
  const fields = { messages: story, seed: 7, max_tokens: 40 };
  const wanted = await generate(story, 7, { max_tokens: 40 });
  equal("a seed repeats, streamed and not", wanted, await text(fields), await joined(await chat({ ...fields, stream: true })));
  const asked = Array.from({ length: 16 }, (_, seed) => ({ messages: story, seed, temperature: 1.2, max_tokens: 40 }));
  const together = await Promise.all(asked.map(text));
  check("other seeds say other things", new Set(together).size > 10);
  const alone = [];
  for (const fields of asked) alone.push(await text(fields));
  equal("16 at once say what each says alone", together, alone);
}

async function choices() {
  const answer = await chat({ messages: story, n: 3, seed: 1, temperature: 1.2, max_tokens: 40 });
  equal("three choices that differ", new Set(answer.choices.map((choice) => choice.message.content)).size, 3);
}

async function stops() {
  const said = await text({ temperature: 0 });
  const answer = await chat({ temperature: 0, stop: [" from"] });
  equal("a stop ends the answer before it", answer.choices[0].message.content, said.slice(0, said.indexOf(" from")));
  equal("which is a stop", answer.choices[0].finish_reason, "stop");
  const cut = await chat({ temperature: 0, max_tokens: 3 });
  equal("max_tokens cuts", [cut.choices[0].finish_reason, cut.usage.completion_tokens], ["length", 3]);
}

async function likelihoods() {
  const { logprobs, message } = (await chat({ temperature: 0, logprobs: true, top_logprobs: 3 })).choices[0];
  equal("tokens are the answer", logprobs.content.map((entry) => entry.token).join(""), message.content);
  const greedy = logprobs.content.every((entry) => entry.top_logprobs[0].token === entry.token);
  check("the greedy token is the likeliest", greedy && logprobs.content.every((entry) => entry.top_logprobs.length === 3));
}

async function structured() {
  const schema = { type: "object", properties: { dish: { enum: ["samosa", "chaat"] } }, required: ["dish"], additionalProperties: false };
  const response_format = { type: "json_schema", json_schema: { name: "order", schema, strict: true } };
  const { dish } = JSON.parse(await text({ response_format, temperature: 0 }));
  check(`an answer is what the schema wants: ${dish}`, ["samosa", "chaat"].includes(dish));
}

async function errors() {
  const { AuthenticationError, BadRequestError, NotFoundError } = OpenAI;
  const wrong = new OpenAI({ ...options, baseURL: `${url}/v1`, apiKey: "wrong" });
  await refused("a wrong key", AuthenticationError, () => wrong.models.list(), { status: 401, code: "invalid_api_key" });
  await refused("a model that is not", NotFoundError, () => chat({ model: "gpt-4o" }), { code: "model_not_found" });
  await refused("a temperature of 3", BadRequestError, () => chat({ temperature: 3 }), { param: "temperature" });
  await refused("an unknown field", BadRequestError, () => chat({ foo: 1 }), { code: "unknown_parameter", param: "foo" });
  const content = "1 2 3 4 5 6 7 8 9 ".repeat(300);
  const long = () => chat({ messages: [{ role: "user", content }] });
  await refused("too long a talk", BadRequestError, long, { code: "context_length_exceeded", param: "messages" });
}

async function aborts() {
  const stats = async () => JSON.parse(await http("/stats", undefined, {}, slowUrl));
  const before = (await stats()).requests.client_gone;
  const { tokens } = JSON.parse(await http("/tokenize", { model, prompt: " the", add_special_tokens: false }));
  const endless = { model, messages: story, max_tokens: 400, logit_bias: { [tokens[0]]: 100 } };
  const controller = new AbortController();
  const stream = await slow.chat.completions.create({ ...endless, stream: true }, { signal: controller.signal });
  let seen = 0;
  for await (const _ of stream) {
    if (++seen === 3) controller.abort();
  }
  equal("an abort ends the loop", seen, 3);
  const idle = async () => {
    const now = await stats();
    return now.running === 0 && now.queue.requests === 0 && now.requests.client_gone === before + 1;
  };
  await until("and frees the place", idle);
}

for (const part of [models, conversation, streams, seeds, choices, stops, likelihoods, structured, errors, aborts]) {
  console.log(`- ${part.name}`);
  try {
    await part();
  } catch (error) {
    console.error(`FAILED: ${error.message}\n${error.stack}`);
    process.exit(1);
  }
}
console.log("all as it should be: openai_node.mjs");

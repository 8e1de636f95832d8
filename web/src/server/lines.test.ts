import { expect, test } from "vitest";

import { lines } from "./lines";

const TEXT = "data: {\"token\":\"é🥟\"}\n\ndata: two\n\n: waiting\n\nrest";

function streamOf(pieces: Uint8Array[]): ReadableStream<Uint8Array> {
  return new ReadableStream({
    start(controller) {
      pieces.forEach((piece) => controller.enqueue(piece));
      controller.close();
    },
  });
}

async function read(size: number): Promise<string[]> {
  const bytes = new TextEncoder().encode(TEXT);
  const pieces = Array.from({ length: Math.ceil(bytes.length / size) }, (_, i) => bytes.slice(i * size, (i + 1) * size));
  const found: string[] = [];
  for await (const batch of lines(streamOf(pieces))) {
    found.push(...batch);
  }
  return found;
}

test("lines are whole however the bytes are cut", async () => {
  for (const size of [1, 2, 3, 5, 1000]) {
    expect(await read(size), `${size} bytes`).toEqual(TEXT.split("\n"));
  }
});

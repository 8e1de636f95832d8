/** The whole lines of a byte stream, piece by piece as they come. Works however the bytes are cut. */
export async function* lines(body: ReadableStream<Uint8Array>): AsyncGenerator<string[]> {
  const decoder = new TextDecoder();
  const reader = body.getReader();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      rest += done ? decoder.decode() : decoder.decode(value, { stream: true });
      const end = rest.lastIndexOf("\n");
      if (end >= 0) {
        const whole = rest.slice(0, end).split("\n");
        rest = rest.slice(end + 1);
        yield whole;
      }
      if (done) {
        if (rest) {
          yield [rest];
        }
        return;
      }
    }
  } finally {
    // Whoever stops listening leaves; an answer that nobody reads is not computed to its end.
    reader.cancel().catch(() => undefined);
  }
}

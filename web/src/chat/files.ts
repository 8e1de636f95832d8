/** Conversations as a file, and back. */

import { KIND, parse, VERSION } from "./parse";
import { adopt, conversations } from "./store";

const MAX_BYTES = 64 << 20;

/** Saves all conversations as one JSON file. */
export function exportAll(): void {
  const file = { kind: KIND, version: VERSION, exported: new Date().toISOString(), conversations: conversations.value };
  const url = URL.createObjectURL(new Blob([JSON.stringify(file, null, 1)], { type: "application/json" }));
  const link = document.createElement("a");
  link.href = url;
  link.download = `samosa-${new Date().toISOString().slice(0, 10)}.json`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

/** Adds the conversations of a file; says in a sentence what came of it. */
export async function importFile(file: File): Promise<string> {
  if (file.size > MAX_BYTES) {
    return `${file.name} is larger than ${MAX_BYTES >> 20} MB.`;
  }
  try {
    const read = parse(JSON.parse(await file.text()));
    const came = await adopt(read);
    const same = read.length - came;
    return `${came} of ${read.length} came in${same > 0 ? `; ${same} were here already` : ""}.`;
  } catch (error) {
    return `${file.name} was not taken: ${error instanceof SyntaxError ? "it is not JSON" : (error as Error).message}.`;
  }
}

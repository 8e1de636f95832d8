import { expect, test } from "vitest";

import { bytes, counted, duration, number } from "./words";

const plain = (text: string) => text.replaceAll("\u202f", " ");

test("figures are as people read them", () => {
  expect([0.4512, 12.34, 421.7, 9000, 1234567].map(number).map(plain)).toEqual(["0.45", "12.3", "422", "9 000", "1 234 567"]);
  expect([0.84, 31.2, 999, 1234, 45_000, 185_000, 7_500_000].map(duration).map(plain)).toEqual(["0.8 ms", "31 ms", "999 ms", "1.2 s", "45 s", "3 min 5 s", "2 h 5 min"]);
  expect([512, 4200, 1_072_889_856].map(bytes).map(plain)).toEqual(["512 B", "4.2 kB", "1.1 GB"]);
  expect([counted(1, "token"), counted(2, "token")]).toEqual(["1 token", "2 tokens"]);
});

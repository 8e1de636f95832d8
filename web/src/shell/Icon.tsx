/** Signs of one hand: 20 units, a stroke of 1.6, round ends. They stand beside words or carry a label elsewhere. */

const PATHS = {
  plus: "M10 4v12M4 10h12",
  send: "M10 16V4M5 9l5-5 5 5",
  stop: "M5.5 5.5h9v9h-9z",
  copy: "M7 7V4.5h8.5V13H13M4.5 7H13v8.5H4.5z",
  check: "M4.5 10.5l3.5 3.5 7.5-8",
  edit: "M4 16l.8-3.6L13 4.2a1.4 1.4 0 012 0l.8.8a1.4 1.4 0 010 2L7.6 15.2z",
  again: "M15.5 8A6 6 0 104.8 13M15.8 4v4h-4",
  bin: "M4 6h12M8 6V4h4v2M6 6l.7 10h6.6L14 6",
  left: "M12 5l-5 5 5 5",
  right: "M8 5l5 5-5 5",
  down: "M5 8l5 5 5-5",
  menu: "M3.5 6h13M3.5 10h13M3.5 14h13",
  close: "M5 5l10 10M15 5L5 15",
  sun: "M10 6.5a3.5 3.5 0 100 7 3.5 3.5 0 000-7zM10 2v1.8M10 16.2V18M2 10h1.8M16.2 10H18M4.3 4.3l1.3 1.3M14.4 14.4l1.3 1.3M15.7 4.3l-1.3 1.3M5.6 14.4l-1.3 1.3",
  moon: "M16 11.5A6.5 6.5 0 118.5 4a5.2 5.2 0 007.5 7.5z",
  half: "M10 3.5a6.5 6.5 0 100 13 6.5 6.5 0 000-13zM10 3.5v13M10 6.5h5.3M10 10h6.4M10 13.5h5.3",
  key: "M12.5 4a3.5 3.5 0 11-2.9 5.4L4 15v1.5h2.5V15H8v-1.5h1.5l1-1",
  chat: "M4 5h12v8.5H9L5.5 16.5v-3H4z",
  models: "M10 3l6.5 3.5L10 10 3.5 6.5zM3.5 10L10 13.5 16.5 10M3.5 13.5L10 17l6.5-3.5",
  live: "M2.5 10.5h3.5l2-5.5 4 10 2-4.5h3.5",
  tune: "M4 6.5h6M13.5 6.5H16M4 13.5h2.5M10 13.5h6M11.7 4.8v3.4M8.2 11.8v3.4",
  out: "M10 3v8.5M6.5 6.5L10 3l3.5 3.5M4 12.5V16h12v-3.5",
  in: "M10 11.5V3M6.5 8l3.5 3.5L13.5 8M4 12.5V16h12v-3.5",
  think: "M10 3.5a5 5 0 00-3 9V15h6v-2.5a5 5 0 00-3-9zM8 17.5h4",
  abacus: "M4 4h12v12H4zM4 8h12M8 4v4M12 8v8M7 12h2M14 10.5v1M14 13v1",
  book: "M4 4.5c2.5-.8 4.5-.3 6 1 1.5-1.3 3.5-1.8 6-1v10.5c-2.5-.8-4.5-.3-6 1-1.5-1.3-3.5-1.8-6-1zM10 5.5V16",
} as const;

export type IconName = keyof typeof PATHS;

export function Icon({ name, size = 20 }: { name: IconName; size?: number }) {
  return (
    <svg class="icon-sign" width={size} height={size} viewBox="0 0 20 20" aria-hidden="true" focusable="false">
      <path d={PATHS[name]} fill="none" stroke="currentColor" stroke-width="1.6" stroke-linecap="round" stroke-linejoin="round" />
    </svg>
  );
}

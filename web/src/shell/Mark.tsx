/** The mark: a samosa, folded once and crimped at its foot. */
export function Mark({ size = 28 }: { size?: number }) {
  return (
    <svg width={size} height={size} viewBox="0 0 32 32" aria-hidden="true" focusable="false">
      <path d="M12.9 3.7c1.5-1.5 3.6-1.1 4.8.7 4.3 6.3 8 12.5 11 19 1 2.2-.2 4.2-2.6 4.5-7.1.8-14.3.6-21.4-.5-2.3-.4-3.3-2.5-2.4-4.6C4.9 15.9 8.3 9.1 12.9 3.7z" fill="#e09a1c" />
      <path d="M17.7 4.4c4.3 6.3 8 12.5 11 19 1 2.2-.2 4.2-2.6 4.5-2.2.25-4.5.4-6.7.44C20.9 20.5 20.5 12.2 15.9 3c.7.2 1.3.7 1.8 1.4z" fill="#b9650f" />
      <path d="M3 24.9c1.7 1.9 3.3-1 5-.1s2.6 2 4.3.7 3 .9 4.6.6 2.3-1.6 3.7-.9 2.6.8 3.8-.3 2.5.3 3.7-.3" fill="none" stroke="#fff1d6" stroke-width="1.5" stroke-linecap="round" />
      <path d="M9.3 17.8c1.5-.7 2.8-1.8 3.7-3.3M7.8 21.3c2-.6 3.7-1.7 5-3.3" fill="none" stroke="#9a5208" stroke-width="1.3" stroke-linecap="round" />
    </svg>
  );
}

/** Whether a key belongs to a sign that is being composed, as in Chinese or Japanese. Safari tells of the last one by its number alone. */
export const isComposing = (event: KeyboardEvent) => event.isComposing || event.keyCode === 229;

// Texts that users enter.

/** A text in one line: the server accepts no line breaks in it. */
export function oneLine(text: string): string {
  return text.trim().replace(/\s+/g, ' ');
}

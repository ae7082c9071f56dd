// Makes strings safe for a terminal. An answer of meshd repeats texts of other clusters' agents, and an escape sequence
// in such a text could change the terminal's title or hide a line; bidirectional controls could show a name in another
// order. Invariant: everything from an answer that is printed, JSON included, has passed through this file.

/**
 * The unsafe characters: C0, DEL and C1 (8-bit escape sequences) of ECMA-48, invisible and bidirectional controls, line
 * separators, the byte order mark and the tag characters of Unicode.
 */
const UNSAFE =
  // eslint-disable-next-line no-control-regex -- control characters are what it is for
  /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]|\u{e0001}|[\u{e0020}-\u{e007f}]/gu

/**
 * Returns the text with every unsafe character as its escape, such as `\x1b` or `\u202e`. A lone surrogate becomes
 * U+FFFD. The result is one line, because a line break is unsafe, too: it could imitate a line of meshctl.
 */
export function clean(text: string): string {
  return text.toWellFormed().replace(UNSAFE, (character) => {
    const code = character.codePointAt(0) ?? 0
    if (code <= 0xff) return `\\x${code.toString(16).padStart(2, '0')}`
    return code <= 0xffff ? `\\u${code.toString(16).padStart(4, '0')}` : `\\u{${code.toString(16)}}`
  })
}

/**
 * Returns the lines of a text, each cleaned; a tab becomes four spaces. For texts of our own agent, such as commands.
 */
export function cleanLines(text: string): string[] {
  return text.split(/\r?\n/).map((line) => clean(line.replaceAll('\t', '    ')))
}

/**
 * Returns a copy of a JSON value with every string and key cleaned. Keys may come from peers, too: reasons of refusals.
 */
export function cleanDeep<T>(value: T): T
export function cleanDeep(value: unknown): unknown {
  if (typeof value === 'string') return clean(value)
  if (Array.isArray(value)) return value.map((inner) => cleanDeep<unknown>(inner))
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(
    Object.entries(value).map(([key, inner]) => [clean(key), cleanDeep<unknown>(inner)])
  )
}

/**
 * Returns JSON with the same values, in which unsafe characters appear only as \u escapes (RFC 8259 §7), so a parser
 * gets the exact text. `indent` is the number of spaces; undefined: one line.
 */
export function safeJson(value: unknown, indent?: number): string {
  return JSON.stringify(value, undefined, indent).replace(UNSAFE, (character) =>
    // A line break in the result is one of the indentation: inside strings JSON.stringify has escaped it.
    character === '\n' ? character : [...utf16(character)].map(escape).join('')
  )
}

/** The UTF-16 code units of a character. JSON escapes a character above U+FFFF as two of them. */
function* utf16(character: string): Generator<number> {
  for (let index = 0; index < character.length; index++) yield character.charCodeAt(index)
}

function escape(unit: number): string {
  return `\\u${unit.toString(16).padStart(4, '0')}`
}

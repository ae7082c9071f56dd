// Strings from an agent may repeat what another cluster's agent said. None of them may steer the terminal.
// Invariant: everything that is printed, JSON included, has passed through this file.

/** C0, DEL, C1 (8-bit escape sequences), invisible and bidirectional controls, line separators, byte order mark. */
const UNSAFE =
  // eslint-disable-next-line no-control-regex -- control characters are what it is for
  /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]|\u{e0001}|[\u{e0020}-\u{e007f}]/gu

/** Shows every unsafe character as its escape, such as `\x1b` or `\u202e`. */
export function clean(text: string): string {
  return text.toWellFormed().replace(UNSAFE, (character) => {
    const code = character.codePointAt(0) ?? 0
    if (code <= 0xff) return `\\x${code.toString(16).padStart(2, '0')}`
    return code <= 0xffff ? `\\u${code.toString(16).padStart(4, '0')}` : `\\u{${code.toString(16)}}`
  })
}

/** `clean` for text of several lines: line breaks stay, tabs become spaces. */
export function cleanLines(text: string): string[] {
  return text.split(/\r?\n/).map((line) => clean(line.replaceAll('\t', '    ')))
}

/** A copy of a JSON value with every string and key clean. */
export function cleanDeep<T>(value: T): T
export function cleanDeep(value: unknown): unknown {
  if (typeof value === 'string') return clean(value)
  if (Array.isArray(value)) return value.map((inner) => cleanDeep<unknown>(inner))
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(
    Object.entries(value).map(([key, inner]) => [clean(key), cleanDeep<unknown>(inner)])
  )
}

/** JSON with the same values, in which unsafe characters appear as \u escapes only. */
export function safeJson(value: unknown, indent?: number): string {
  return JSON.stringify(value, undefined, indent).replace(UNSAFE, (character) =>
    character === '\n' ? character : [...utf16(character)].map(escape).join('')
  )
}

function* utf16(character: string): Generator<number> {
  for (let index = 0; index < character.length; index++) yield character.charCodeAt(index)
}

function escape(unit: number): string {
  return `\\u${unit.toString(16).padStart(4, '0')}`
}

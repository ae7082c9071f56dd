// The words of a Corefile, cut as CoreDNS cuts them. Source: coredns/caddy 1.1.4, caddyfile/lexer.go, which this file follows
// state by state: what looks odd below is odd there, too, and a reader with better manners would see other blocks than CoreDNS.

/** A word of the file. `line` counts from 1 and is that of the word's first character. */
export interface Token {
  readonly text: string
  readonly line: number
}

// White space of Go's unicode.IsSpace: the property White_Space. Unlike \s it has U+0085 and lacks U+FEFF.
const SPACE = /^[\t-\r \u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]$/u
const BYTE_ORDER_MARK = '\ufeff'

/** Cuts a whole file. A byte order mark at its beginning is no part of it. */
export function corefileTokens(text: string): Token[] {
  const letters = Array.from(text.startsWith(BYTE_ORDER_MARK) ? text.slice(1) : text)
  const lexer = new Lexer(letters)
  const tokens: Token[] = []
  for (let token = lexer.next(); token !== undefined; token = lexer.next()) tokens.push(token)
  return tokens
}

class Lexer {
  readonly #letters: readonly string[]
  #at = 0
  #line = 1

  constructor(letters: readonly string[]) {
    this.#letters = letters
  }

  /**
   * The next word; undefined at the end. A comment lasts to the end of its line, but a comment that begins inside a word
   * ends with the next white space, as there. A carriage return is skipped and parts no words.
   */
  next(): Token | undefined {
    let word = ''
    let line = this.#line
    let isComment = false
    while (this.#at < this.#letters.length) {
      const letter = this.#letters[this.#at++] ?? ''
      if (SPACE.test(letter)) {
        if (letter === '\r') continue
        if (letter === '\n') {
          this.#line++
          isComment = false
        }
        if (word !== '') return { text: word, line }
        continue
      }
      if (letter === '#') isComment = true
      if (isComment) continue
      if (word === '') {
        line = this.#line
        if (letter === '"') return this.#quoted(line)
      }
      word += letter
    }
    return word === '' ? undefined : { text: word, line }
  }

  /** The rest of a quoted word. A backslash escapes a quotation mark and stays before any other character. */
  #quoted(line: number): Token | undefined {
    let word = ''
    let isEscaped = false
    while (this.#at < this.#letters.length) {
      const letter = this.#letters[this.#at++] ?? ''
      if (!isEscaped && letter === '\\') {
        isEscaped = true
        continue
      }
      if (!isEscaped && letter === '"') return { text: word, line }
      if (letter === '\n') this.#line++
      word += isEscaped && letter !== '"' ? `\\${letter}` : letter
      isEscaped = false
    }
    // The file ends inside the quotation.
    return word === '' ? undefined : { text: word, line }
  }
}

// The server blocks of a Corefile: their keys and the plugins that they name. Source: coredns/caddy 1.1.4, caddyfile/parse.go
// and dispenser.go, which this file follows call by call.
// What the file itself does not say (a variable of CoreDNS's environment, an imported file, a plugin that only some builds
// have) makes the file unclear: CoreDNS may load it or not, and may serve any zone.
import { PLUGINS } from './corefile-plugins.ts'
import { corefileTokens, type Token } from './corefile-tokens.ts'

/** A server block. */
export interface ServerBlock {
  readonly keys: readonly Token[]
  /** The names of its plugins. */
  readonly plugins: ReadonlySet<string>
}

/**
 * Why a file has no meaning that is certain. `invalid`: CoreDNS does not load it. `unclear`: it may or may not. `reason`: a
 * clause for people, which names the line.
 */
export type Flaw =
  | { readonly kind: 'invalid'; readonly reason: string }
  | { readonly kind: 'unclear'; readonly reason: string }

/** The blocks in their order, or the first flaw. */
export function parseCorefile(text: string): readonly ServerBlock[] | Flaw {
  try {
    return new Parser(corefileTokens(text)).all()
  } catch (error) {
    if (error instanceof FlawFound) return error.flaw
    throw error
  }
}

// Expansions of snippets: there the limit is 10,000, which no file that a person wrote comes near.
const EXPANSIONS_MAX = 1000
/** References to the environment, {$NAME} and {%NAME%}. CoreDNS replaces them in keys, names of plugins and imports. */
const VARIABLE = /\{\$[^}]+\}|\{%.+?%\}/s
/** The keys of the ConfigMap coredns-custom that hold server blocks. They are read apart (cluster-dns.ts). */
const SERVER_FILES = /\*\.server$/

class FlawFound extends Error {
  readonly flaw: Flaw

  constructor(flaw: Flaw) {
    super(flaw.reason)
    this.flaw = flaw
  }
}

class Parser {
  #tokens: Token[]
  #at = -1
  #isAtEnd = false
  #expansions = 0
  readonly #snippets = new Map<string, readonly Token[]>()
  #keys: Token[] = []
  #plugins = new Set<string>()

  constructor(tokens: Token[]) {
    this.#tokens = tokens
  }

  /** parseAll: blocks until the words end. A block without keys is left out, as there. */
  all(): readonly ServerBlock[] {
    const blocks: ServerBlock[] = []
    while (this.#next()) {
      this.#keys = []
      this.#plugins = new Set()
      this.#isAtEnd = false
      this.#block()
      if (this.#keys.length > 0) blocks.push({ keys: this.#keys, plugins: this.#plugins })
    }
    return blocks
  }

  /** begin: keys, then the contents. The definition of a snippet is no block. */
  #block(): void {
    this.#addresses()
    if (this.#isAtEnd) return
    const snippet = this.#snippetName()
    if (snippet === undefined) return this.#contents()
    if (this.#snippets.has(snippet)) this.#invalid(`the snippet ${snippet} is defined a second time`)
    this.#snippets.set(snippet, this.#snippetTokens(snippet))
    this.#keys = []
  }

  /** addresses: the keys, until "{" or the end of a line. A comma at the end of a key announces another one. */
  #addresses(): void {
    let isExpecting = false
    for (;;) {
      const text = this.#certain(this.#text(), 'a zone')
      if (text === 'import' && this.#isNewLine()) {
        this.#import({ isTop: true })
        continue
      }
      if (text === '{') {
        if (isExpecting) this.#invalid('there is a comma after the last zone before "{"')
        return
      }
      if (text !== '') {
        isExpecting = text.endsWith(',')
        this.#keys.push({ text: isExpecting ? text.slice(0, -1) : text, line: this.#line() })
      }
      const hasNext = this.#next()
      if (!hasNext && isExpecting) this.#invalid('the file ends after a comma that announces another zone')
      this.#isAtEnd = !hasNext
      if (!hasNext || (!isExpecting && this.#isNewLine())) return
    }
  }

  /** blockContents: braces are optional for the last block of a file. */
  #contents(): void {
    const hasBrace = this.#text() === '{'
    if (!hasBrace) this.#at--
    while (this.#next()) {
      if (this.#text() === '}') break
      if (this.#text() === 'import') {
        this.#import({ isTop: false })
        this.#at--
      } else this.#plugin()
    }
    if (hasBrace && this.#text() !== '}') this.#invalid('a "{" is not closed')
  }

  /** directive: one plugin with its arguments and its braces. */
  #plugin(): void {
    const name = this.#certain(this.#text(), 'the name of a plugin')
    if (!PLUGINS.has(name))
      this.#fail(
        'unclear',
        `${JSON.stringify(name)} is no plugin of CoreDNS, unless it was built with one of this name`
      )
    this.#plugins.add(name)
    let nesting = 0
    while (this.#next()) {
      const text = this.#text()
      if (text === '{') nesting++
      else if (this.#isNewLine() && nesting === 0) {
        this.#at--
        return
      } else if (text === '}' && nesting > 0) nesting--
      else if (text === '}') this.#invalid('a "}" has no "{" before it')
      else if (text === 'import' && this.#isNewLine()) {
        this.#import({ isTop: false })
        this.#at--
      }
    }
    if (nesting > 0) this.#invalid(`the file ends inside the braces of the plugin ${name}`)
  }

  /**
   * doImport: puts the words of a snippet in the place of `import <name>`. Afterwards the place is that of the first word
   * that was put in. `isTop`: between the blocks, where an imported file may have blocks of its own.
   */
  #import({ isTop }: { readonly isTop: boolean }): void {
    if (!this.#nextOfLine()) this.#invalid('import names no snippet and no file')
    const name = this.#certain(this.#text(), 'the name of an import')
    if (name === '') this.#invalid('import names no snippet and no file')
    if (this.#nextOfLine()) this.#invalid('import takes one argument')
    const snippet = this.#snippets.get(name)
    if (snippet === undefined) this.#importFiles(name, isTop)
    if (++this.#expansions > EXPANSIONS_MAX)
      this.#fail('unclear', `snippets are imported more than ${EXPANSIONS_MAX} times`)
    this.#tokens.splice(this.#at - 1, 2, ...(snippet ?? []))
    this.#at--
  }

  /** A pattern may match no file, and the files of plugins inside a block add no zone. A single file has to exist. */
  #importFiles(name: string, isTop: boolean): void {
    const count = (letter: string) => name.split(letter).length - 1
    if (count('*') > 1 || count('?') > 1 || (name.includes('[') && name.includes(']')))
      this.#invalid(`the pattern ${name} has more than one wildcard`)
    const isPattern = /[*?]/.test(name) && !/[[\]\\]/.test(name)
    if (!isPattern)
      this.#fail(
        'unclear',
        `it imports ${name}, which is no snippet above this line, and the agents cannot read the file`
      )
    if (isTop && !SERVER_FILES.test(name))
      this.#fail('unclear', `it imports ${name}, and the agents cannot read which zones these files serve`)
  }

  /** isSnippet: a single key in parentheses. */
  #snippetName(): string | undefined {
    const [only, ...more] = this.#keys
    const isSnippet =
      more.length === 0 && only !== undefined && only.text.startsWith('(') && only.text.endsWith(')')
    return isSnippet ? only.text.slice(1).replace(/\)$/, '') : undefined
  }

  /** snippetTokens: the words between the braces. */
  #snippetTokens(name: string): readonly Token[] {
    if (this.#text() !== '{') this.#invalid(`the snippet ${name} has no "{"`)
    const tokens: Token[] = []
    let depth = 1
    while (this.#next()) {
      if (this.#text() === '}' && --depth === 0) break
      if (this.#text() === '{') depth++
      tokens.push(this.#tokens[this.#at] ?? { text: '', line: 0 })
    }
    if (depth !== 0) this.#invalid(`the "{" of the snippet ${name} is not closed`)
    for (const [index, token] of tokens.entries()) {
      const before = tokens[index - 1]
      const isFirst = before === undefined || before.line !== token.line
      if (token.text === 'import' && isFirst && tokens[index + 1]?.text === name)
        this.#invalid(`the snippet ${name} imports itself`)
    }
    return tokens
  }

  /** The text, if CoreDNS takes it as it is written. */
  #certain(text: string, what: string): string {
    const [variable] = VARIABLE.exec(text) ?? []
    if (variable !== undefined)
      this.#fail('unclear', `${what} has the variable ${variable}, whose value only CoreDNS knows`)
    return text
  }

  #next(): boolean {
    if (this.#at >= this.#tokens.length - 1) return false
    this.#at++
    return true
  }

  /** NextArg: the next word if it stands on the same line. */
  #nextOfLine(): boolean {
    const [here, there] = [this.#tokens[this.#at], this.#tokens[this.#at + 1]]
    if (here === undefined || there === undefined || endLine(here) !== there.line) return false
    this.#at++
    return true
  }

  #isNewLine(): boolean {
    const [before, here] = [this.#tokens[this.#at - 1], this.#tokens[this.#at]]
    return this.#at < 1 || (before !== undefined && here !== undefined && endLine(before) < here.line)
  }

  #text(): string {
    return this.#tokens[this.#at]?.text ?? ''
  }

  #line(): number {
    return (this.#tokens[this.#at] ?? this.#tokens.at(-1))?.line ?? 1
  }

  #invalid(what: string): never {
    return this.#fail('invalid', what)
  }

  #fail(kind: Flaw['kind'], what: string): never {
    throw new FlawFound({ kind, reason: `line ${this.#line()}: ${what}` })
  }
}

/** The line on which a word ends: a quoted word may have line breaks. */
function endLine({ text, line }: Token): number {
  return line + text.split('\n').length - 1
}

// Label selectors as the Kubernetes API reads them: "a=b,c!=d,e in (f,g),h notin (i),j,!k,l>5". The export policy and
// the list/watch API of the DNS feed share this parser. Its refusals have the wording of the API server, because
// clients of the feed show them to their users.
// Source: k8s.io/apimachinery/pkg/labels, and the grammar in the API documentation, "Labels and Selectors".

/** Labels of an object as they were read. A value that is not a string equals no text. */
interface Labels {
  readonly [key: string]: unknown
}

/** The requirements of a selector, which must all hold; an empty list selects everything. */
export type LabelSelector = readonly Requirement[]

/**
 * One condition on one label. `values` is empty for exists and missing, has one integer for above and below, and at
 * least one text for in and notin.
 */
interface Requirement {
  readonly key: string
  readonly operator: 'in' | 'notin' | 'exists' | 'missing' | 'above' | 'below'
  readonly values: readonly string[]
}

/** `reason` is the message of the API server's answer 400. */
type ParsedSelector =
  | { readonly kind: 'selector'; readonly selector: LabelSelector }
  | { readonly kind: 'invalid'; readonly reason: string }

/** Parses the text of a selector. It never throws. An empty text selects everything. */
export function parseSelector(text: string): ParsedSelector {
  if (text.length > SELECTOR_CHARACTERS_MAX)
    return { kind: 'invalid', reason: `the selector is longer than ${SELECTOR_CHARACTERS_MAX} characters` }
  try {
    const selector = new Parser(tokensOf(text)).parse()
    if (selector.length > REQUIREMENTS_MAX)
      return { kind: 'invalid', reason: `the selector has more than ${REQUIREMENTS_MAX} requirements` }
    return { kind: 'selector', selector }
  } catch (error) {
    if (error instanceof SelectorError) return { kind: 'invalid', reason: error.message }
    throw error
  }
}

/** Whether an object with these labels matches. */
export function selects(selector: LabelSelector, labels: Labels): boolean {
  return selector.every((requirement) => meets(requirement, labels))
}

function meets({ key, operator, values }: Requirement, labels: Labels): boolean {
  const label = Object.hasOwn(labels, key) ? labels[key] : undefined
  const isOneOf = typeof label === 'string' && values.includes(label)
  switch (operator) {
    case 'in':
      return isOneOf
    case 'notin':
      return !isOneOf
    case 'exists':
      return label !== undefined
    case 'missing':
      return label === undefined
    case 'above':
      return typeof label === 'string' && isInteger(label) && BigInt(label) > BigInt(values[0] ?? '')
    case 'below':
      return typeof label === 'string' && isInteger(label) && BigInt(label) < BigInt(values[0] ?? '')
    default:
      return operator satisfies never
  }
}

// Each requirement is tried on every object of a list. A selector comes in a URL, which hardly exceeds 8 KiB.
const REQUIREMENTS_MAX = 256
const SELECTOR_CHARACTERS_MAX = 8192

/** A syntax error in a selector; thrown and caught inside this file only. */
class SelectorError extends Error {}

type TokenKind = 'identifier' | '(' | ')' | ',' | '!' | '=' | '==' | '!=' | '>' | '<' | 'end'

interface Token {
  readonly kind: TokenKind
  readonly text: string
}

const END: Token = { kind: 'end', text: '' }
const TOKEN = /[ \t\r\n]*(==|!=|[=!(),<>]|[^=!(),<> \t\r\n]+)/y

/** The tokens of a selector. Blanks, tabs and line breaks separate words, and no other white space does. */
function tokensOf(text: string): readonly Token[] {
  const tokens: Token[] = []
  const trimmed = text.replace(/[ \t\r\n]+$/, '')
  TOKEN.lastIndex = 0
  while (TOKEN.lastIndex < trimmed.length) {
    const [, token = ''] = TOKEN.exec(trimmed) ?? []
    if (token === '') break
    tokens.push({ kind: /^[=!(),<>]/.test(token) ? (token as TokenKind) : 'identifier', text: token })
  }
  return tokens
}

/** A recursive descent parser with one token of lookahead. */
class Parser {
  readonly #tokens: readonly Token[]
  #at = 0

  constructor(tokens: readonly Token[]) {
    this.#tokens = tokens
  }

  parse(): LabelSelector {
    const requirements: Requirement[] = []
    if (this.#next.kind === 'end') return requirements
    if (this.#next.kind !== 'identifier' && this.#next.kind !== '!')
      throw new SelectorError(`found '${this.#next.text}', expected: !, identifier, or 'end of string'`)
    for (;;) {
      requirements.push(this.#requirement())
      const after = this.#take()
      if (after.kind === 'end') return requirements
      if (after.kind !== ',')
        throw new SelectorError(`found '${after.text}', expected: ',' or 'end of string'`)
      if (this.#next.kind !== 'identifier' && this.#next.kind !== '!')
        throw new SelectorError(`found '${this.#next.text}', expected: identifier after ','`)
    }
  }

  get #next(): Token {
    return this.#tokens[this.#at] ?? END
  }

  #take(): Token {
    const token = this.#next
    this.#at += 1
    return token
  }

  #requirement(): Requirement {
    const isMissing = this.#next.kind === '!'
    if (isMissing) this.#take()
    const { kind, text: key } = this.#take()
    if (kind !== 'identifier') throw unparsable(`found '${key}', expected: identifier`)
    if (!isLabelKey(key)) throw unparsable(`key: Invalid value: ${JSON.stringify(key)}: not a label key`)
    if (isMissing) return { key, operator: 'missing', values: [] }
    if (this.#next.kind === ',' || this.#next.kind === 'end') return { key, operator: 'exists', values: [] }
    return this.#comparison(key)
  }

  #comparison(key: string): Requirement {
    const operator = this.#take()
    if (operator.kind === 'identifier' && (operator.text === 'in' || operator.text === 'notin'))
      return { key, operator: operator.text, values: this.#checked(key, this.#values()) }
    if (operator.kind === '=' || operator.kind === '==' || operator.kind === '!=')
      return {
        key,
        operator: operator.kind === '!=' ? 'notin' : 'in',
        values: this.#checked(key, [this.#value()])
      }
    if (operator.kind !== '>' && operator.kind !== '<')
      throw unparsable(`found '${operator.text}', expected: in, notin, =, ==, !=, gt, lt`)
    const value = this.#value()
    if (!isInteger(value))
      throw unparsable(
        `values[0][${key}]: Invalid value: ${JSON.stringify(value)}: for 'Gt', 'Lt' operators, the value must be an integer`
      )
    return { key, operator: operator.kind === '>' ? 'above' : 'below', values: [value] }
  }

  /** A list in parentheses: "(a, b)". An empty place between commas is the empty value. */
  #values(): readonly string[] {
    const open = this.#take()
    if (open.kind !== '(') throw unparsable(`found '${open.text}' expected: '('`)
    if (this.#next.kind === ')')
      throw unparsable("values: Invalid value: []: for 'in', 'notin' operators, values set can't be empty")
    const values = new Set<string>()
    for (;;) {
      if (this.#next.kind === 'identifier') values.add(this.#take().text)
      else values.add('')
      const after = this.#take()
      if (after.kind === ')') return [...values]
      if (after.kind !== ',') throw unparsable(`found '${after.text}', expected: ',' or ')'`)
    }
  }

  /** The value behind =, ==, !=, > or <; '' when none follows, as in "a=". */
  #value(): string {
    const { kind } = this.#next
    if (kind === 'end' || kind === ',') return ''
    const { text } = this.#take()
    if (kind !== 'identifier') throw unparsable(`found '${text}', expected: identifier`)
    return text
  }

  /** The values themselves; throws for a text that is no label value. */
  #checked(key: string, values: readonly string[]): readonly string[] {
    const bad = values.findIndex((value) => !LABEL_VALUE.test(value))
    if (bad < 0) return values
    throw unparsable(
      `values[${bad}][${key}]: Invalid value: ${JSON.stringify(values[bad])}: not a label value`
    )
  }
}

function unparsable(reason: string): SelectorError {
  return new SelectorError(`unable to parse requirement: ${reason}`)
}

const LABEL_VALUE = /^(?:[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$/
const KEY_NAME = /^[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$/
const KEY_PREFIX = /^(?=.{1,253}$)[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*$/

/** Whether a text is a label key: a name with an optional DNS prefix, "app" or "kubernetes.io/service-name". */
function isLabelKey(key: string): boolean {
  const parts = key.split('/')
  const name = parts.at(-1) ?? ''
  const [prefix] = parts
  return parts.length <= 2 && KEY_NAME.test(name) && (parts.length === 1 || KEY_PREFIX.test(prefix ?? ''))
}

/** A number of 64 bits in Go's form. */
function isInteger(text: string): boolean {
  return /^[-+]?\d{1,64}$/.test(text) && BigInt.asIntN(64, BigInt(text)) === BigInt(text)
}

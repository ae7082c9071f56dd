// YAML as kubectl reads it: version 1.1 with merge keys, `yes` and `on` as booleans and 0120 as an octal number, but
// dates and times of day as texts. Source: sigs.k8s.io/yaml and its fork of go-yaml v2, resolve.go.
import { parseDocument, type ScalarTag, type Tags } from 'yaml'

/** `line` is where the content or the error begins, counted from 0 in the text that was parsed. */
export type Parsed =
  | { readonly kind: 'object'; readonly object: unknown; readonly line: number }
  | { readonly kind: 'malformed'; readonly message: string; readonly line: number; readonly fix: string }

/**
 * Parses one document. It never throws. It blocks for 1 to 2 s for each MiB of text, so the caller bounds the length.
 */
export function parseYaml(text: string): Parsed {
  try {
    const document = parseDocument(text, {
      version: '1.1',
      merge: true,
      stringKeys: true,
      logLevel: 'error',
      customTags
    })
    const [error] = document.errors
    if (error !== undefined) {
      // The first line of the message; the others are an excerpt of the text with a caret.
      const message = `${error.message.split('\n')[0]?.replace(/ at line \d+, column \d+:?$/, '')}`
      return malformed(message, lineAt(text, error.pos[0]))
    }
    const line = lineAt(text, document.contents?.range?.[0] ?? 0)
    return { kind: 'object', object: document.toJS({ maxAliasCount: ALIASES_MAX }), line }
  } catch (error) {
    // The library throws for aliases that expand beyond the bound and for nesting deeper than the stack.
    return {
      ...malformed(error instanceof Error ? error.message.slice(0, 300) : String(error), 0),
      fix: 'reduce the nesting, and write the values instead of aliases'
    }
  }
}

// An alias bomb ("billion laughs") expands by reuse. Manifests that people write have a handful of aliases.
const ALIASES_MAX = 100

function malformed(message: string, line: number): Parsed & { readonly kind: 'malformed' } {
  return {
    kind: 'malformed',
    message: `malformed YAML: ${message}`,
    line,
    fix: 'correct the syntax; the other documents of the file are used'
  }
}

/** The tags of YAML 1.1 without timestamps and times, and with the numbers and the binary texts of Go. */
function customTags(tags: Tags): Tags {
  const replaced = new Set(['timestamp', 'int', 'float', 'binary'].map((name) => `${TAGS}${name}`))
  return [
    ...tags.filter((tag) => typeof tag === 'string' || !replaced.has(tag.tag)),
    NOT_FINITE,
    goNumber('int'),
    goNumber('float'),
    BINARY
  ]
}

const TAGS = 'tag:yaml.org,2002:'

/** ".inf" and ".nan" are numbers of YAML, but not of JSON, so kubectl refuses a document that has one. */
const NOT_FINITE: ScalarTag = {
  tag: `${TAGS}float`,
  default: true,
  identify: () => false,
  test: /^(?:[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$/,
  resolve: (text, onError) => {
    onError(`${text} is no number of JSON; write it in quotation marks`)
    return text
  }
}

/** A plain scalar that begins like a number is one only if Go's strconv reads it: "e1", "." and "1e999" are texts. */
function goNumber(name: 'int' | 'float'): ScalarTag {
  return {
    tag: `${TAGS}${name}`,
    default: true,
    identify: () => false,
    test: /^(?:[-+0-9]|\.[0-9])/,
    // go-yaml takes underscores out of what begins with a sign or a digit.
    resolve: (text) => numberOf(text.startsWith('.') ? text : text.replaceAll('_', '')) ?? text
  }
}

// ParseInt with base 0; "0o17" is a form of go-yaml, too.
const INTEGER = /^([-+]?)(0x[0-9a-f]+|0b[01]+|0o?[0-7]+|0|[1-9][0-9]*)$/i
// yamlStyleFloat of go-yaml.
const FLOAT = /^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$/

/** undefined: Go reads no number. A float beyond the range of 64 bits is none. */
function numberOf(text: string): number | undefined {
  const [, sign, digits] = INTEGER.exec(text) ?? []
  if (digits !== undefined) {
    const value = Number(/^0[0-7]+$/.test(digits) ? `0o${digits}` : digits)
    return sign === '-' ? -value : value
  }
  const value = FLOAT.test(text) ? Number(text) : NaN
  return Number.isFinite(value) ? value : undefined
}

/** "!!binary aGk=" is the text "hi". */
const BINARY: ScalarTag = {
  tag: `${TAGS}binary`,
  identify: () => false,
  resolve: (text) => Buffer.from(text, 'base64').toString('utf8')
}

/** The number of lines before this offset. */
function lineAt(text: string, offset: number): number {
  return text.slice(0, offset).split('\n').length - 1
}

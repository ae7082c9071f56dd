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

/** The tags of YAML 1.1 without timestamps and times, and with Go's octal numbers. */
function customTags(tags: Tags): Tags {
  return [...tags.filter((tag) => typeof tag === 'string' || !isTime(tag)), GO_OCTAL]
}

function isTime(tag: Exclude<Tags[number], string>): boolean {
  return tag.tag === 'tag:yaml.org,2002:timestamp' || ('format' in tag && tag.format === 'TIME')
}

/** "0o17": YAML 1.1 does not have this form, but Go reads it as a number. */
const GO_OCTAL: ScalarTag = {
  tag: 'tag:yaml.org,2002:int',
  default: true,
  identify: () => false,
  test: /^[-+]?0o[0-7_]+$/,
  resolve: (text) => (text.startsWith('-') ? -1 : 1) * Number(text.replace(/^[-+]/, '').replaceAll('_', ''))
}

/** The number of lines before this offset. */
function lineAt(text: string, offset: number): number {
  return text.slice(0, offset).split('\n').length - 1
}

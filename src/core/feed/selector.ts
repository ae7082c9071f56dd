// Label and field selectors, as far as a list of services needs them.
// Source: Kubernetes API, "Labels and Selectors" and "Field Selectors" (only metadata.name and metadata.namespace exist here).
import type { Labels } from './objects.ts'

export interface Selectable {
  readonly namespace: string
  readonly name: string
  readonly labels: Labels
}

export type Selector = (object: Selectable) => boolean

export type SelectorReading =
  | { readonly kind: 'selector'; readonly matches: Selector }
  | { readonly kind: 'invalid'; readonly reason: string }

/** "a=b,c!=d,e in (f,g),h notin (i),j,!k" */
export function parseLabelSelector(text: string): SelectorReading {
  return conjunction(splitTerms(text), (term) => {
    const set = /^([\w./-]+)\s+(in|notin)\s+\(([^()]*)\)$/.exec(term)
    if (set !== null) {
      const [, key = '', operator, list = ''] = set
      const values = new Set(list.split(',').map((value) => value.trim()))
      const wanted = operator === 'in'
      return ({ labels }) => {
        const value = labels[key]
        return value === undefined ? !wanted : values.has(value) === wanted
      }
    }
    const pair = PAIR.exec(term)
    if (pair !== null) {
      const [, key = '', operator, value = ''] = pair
      return ({ labels }) => (labels[key] === value) === (operator !== '!=')
    }
    const presence = /^(!?)\s*([\w./-]+)$/.exec(term)
    if (presence === null) return undefined
    const [, not, key = ''] = presence
    return ({ labels }) => Object.hasOwn(labels, key) === (not === '')
  })
}

/** "metadata.name=web,metadata.namespace!=shop" */
export function parseFieldSelector(text: string): SelectorReading {
  return conjunction(splitTerms(text), (term) => {
    const [, field, operator, value = ''] = PAIR.exec(term) ?? []
    const wanted = operator !== '!='
    if (field === 'metadata.name') return ({ name }) => (name === value) === wanted
    if (field === 'metadata.namespace') return ({ namespace }) => (namespace === value) === wanted
    return undefined
  })
}

const PAIR = /^([\w./-]+)\s*(==|!=|=)\s*([\w./-]*)$/
/** Each is tried on every object of a list. */
const TERMS_MAX = 32

function conjunction(
  terms: readonly string[],
  read: (term: string) => Selector | undefined
): SelectorReading {
  if (terms.length > TERMS_MAX) return { kind: 'invalid', reason: `more than ${TERMS_MAX} requirements` }
  const parts: Selector[] = []
  for (const term of terms) {
    const part = read(term)
    if (part === undefined) return { kind: 'invalid', reason: `unable to parse requirement: ${term}` }
    parts.push(part)
  }
  return { kind: 'selector', matches: (object) => parts.every((part) => part(object)) }
}

/** At commas that are outside of parentheses. */
function splitTerms(text: string): readonly string[] {
  return text
    .split(/,(?![^(]*\))/)
    .map((term) => term.trim())
    .filter((term) => term !== '')
}

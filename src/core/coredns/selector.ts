// Label and field selectors of a list or watch, with the fields that the Kubernetes API allows for each resource.
// Sources: k8s.io/apimachinery/pkg/fields; the field label conversions of core/v1 (Service, Namespace) and
// discovery.k8s.io/v1.
import { parseSelector, selects } from '../kube/label-selector.ts'
import type { Labels, ResourceName } from './objects.ts'

/** The parts of an object that selectors compare. */
export interface Selectable {
  readonly namespace: string
  readonly name: string
  readonly labels: Labels
  /** The other fields that a field selector may name, written as the API does: "spec.type". */
  readonly fields: Readonly<Record<string, string>>
}

export type Selector = (object: Selectable) => boolean

/** `reason` is the message of an answer 400, in the words of the API server. */
export type SelectorReading =
  | { readonly kind: 'selector'; readonly matches: Selector }
  | { readonly kind: 'invalid'; readonly reason: string }

/** Parses the query parameter labelSelector. It never throws. An empty text selects everything. */
export function parseLabelSelector(text: string): SelectorReading {
  const parsed = parseSelector(text)
  if (parsed.kind === 'invalid') return parsed
  const { selector } = parsed
  return { kind: 'selector', matches: ({ labels }) => selects(selector, labels) }
}

/**
 * Parses the query parameter fieldSelector: "metadata.name=web,metadata.namespace!=shop". In a value, `\\`, `\,` and
 * `\=` stand for the second character. It never throws.
 */
export function parseFieldSelector(text: string, resource: ResourceName): SelectorReading {
  const parts: Selector[] = []
  // The text is cut at commas that are not escaped.
  for (const term of text.match(/(?:\\.|[^,])+/gs) ?? []) {
    const pair = /^([^=!]*)(!=|==|=)(.*)$/s.exec(term)
    if (pair === null) return invalid(`invalid selector: '${text}'; can't understand '${term}'`)
    const [, field = '', operator, escaped = ''] = pair
    if (!FIELDS[resource].includes(field)) return invalid(unknownField(field, resource))
    const value = unescaped(escaped)
    if (value === undefined) return invalid(`invalid field selector: ${term}: invalid escape sequence`)
    parts.push((object) => (fieldOf(object, field) === value) === (operator !== '!='))
  }
  if (parts.length > TERMS_MAX) return invalid(`the selector has more than ${TERMS_MAX} requirements`)
  return { kind: 'selector', matches: (object) => parts.every((part) => part(object)) }
}

// Each requirement is tried on every object of a list.
const TERMS_MAX = 256

const FIELDS: Readonly<Record<ResourceName, readonly string[]>> = {
  services: ['metadata.name', 'metadata.namespace', 'spec.clusterIP', 'spec.type'],
  endpointslices: ['metadata.name', 'metadata.namespace'],
  namespaces: ['metadata.name', 'status.phase']
}

function fieldOf(object: Selectable, field: string): string {
  if (field === 'metadata.name') return object.name
  if (field === 'metadata.namespace') return object.namespace
  return object.fields[field] ?? ''
}

/** The refusal of an unknown field in the words of the API server, which differ between the API groups. */
function unknownField(field: string, resource: ResourceName): string {
  return resource === 'endpointslices'
    ? `${JSON.stringify(field)} is not a known field selector: only "metadata.name", "metadata.namespace"`
    : `field label not supported: ${field}`
}

/** The value without its escapes; undefined where a backslash, a comma or an equals sign is not escaped. */
function unescaped(text: string): string | undefined {
  if (!/^(?:[^\\,=]|\\[\\,=])*$/s.test(text)) return undefined
  return text.replaceAll(/\\(.)/gs, '$1')
}

function invalid(reason: string): SelectorReading {
  return { kind: 'invalid', reason }
}

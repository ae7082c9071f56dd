// Which Services of this cluster the others get to see. Precedence: the Service's own annotation, then its namespace's, then
// the policy. Invariants
//   1. default/kubernetes, the cluster's own API, leaves only when the Service itself is annotated so.
//   2. An annotation that is neither "true" nor "false" keeps the Service at home: the cautious reading of a typing error.
import { isFields, type Fields } from './field-check.ts'

export const EXPORT_ANNOTATION = 'rhizome.io/export'

export interface ExportPolicy {
  /** What becomes of a Service without annotation that the lists and the selector let pass. */
  readonly unmarked: 'export' | 'keep'
  /** Names of namespaces; empty = all. */
  readonly namespaces: readonly string[]
  readonly exceptNamespaces: readonly string[]
  /** On the labels of the Service; empty = all. */
  readonly selector: LabelSelector
}

/** As the seed had it: everything. */
export const EXPORT_ALL: ExportPolicy = {
  unmarked: 'export',
  namespaces: [],
  exceptNamespaces: [],
  selector: []
}

/** `name`: the Service without its endpoints, so that its name resolves and connections are refused. */
export type ExportVerdict = 'whole' | 'name' | 'none'

/** What the policy must know of a Service: little enough to keep one for each of 10,000. */
export interface ExportFacts {
  readonly asked: boolean | undefined
  readonly selected: boolean
  /** internalTrafficPolicy: Local. Its traffic never leaves the node, and another cluster's client is on another node. */
  readonly nodeLocal: boolean
}

export function exportFacts(service: Fields, policy: ExportPolicy): ExportFacts {
  const metadata = isFields(service['metadata']) ? service['metadata'] : {}
  const spec = isFields(service['spec']) ? service['spec'] : {}
  return {
    asked: askedToExport(service),
    selected: selects(policy.selector, isFields(metadata['labels']) ? metadata['labels'] : {}),
    nodeLocal: spec['internalTrafficPolicy'] === 'Local'
  }
}

/** The annotation of a Service or Namespace; undefined when there is none. */
export function askedToExport(object: Fields): boolean | undefined {
  const metadata = isFields(object['metadata']) ? object['metadata'] : {}
  const annotations = isFields(metadata['annotations']) ? metadata['annotations'] : {}
  const value = annotations[EXPORT_ANNOTATION]
  return value === undefined ? undefined : value === 'true'
}

export function exportVerdict(
  service: { readonly namespace: string; readonly name: string; readonly facts: ExportFacts },
  namespaceAsked: boolean | undefined,
  policy: ExportPolicy
): ExportVerdict {
  const { namespace, name, facts } = service
  if (facts.asked === true) return 'whole'
  if (facts.asked === false || (namespace === 'default' && name === 'kubernetes')) return 'none'
  const leaves = namespaceAsked ?? (policy.unmarked === 'export' && passes(namespace, facts, policy))
  if (!leaves) return 'none'
  return facts.nodeLocal ? 'name' : 'whole'
}

function passes(namespace: string, facts: ExportFacts, policy: ExportPolicy): boolean {
  const { namespaces, exceptNamespaces } = policy
  return (
    facts.selected &&
    (namespaces.length === 0 || namespaces.includes(namespace)) &&
    !exceptNamespaces.includes(namespace)
  )
}

/** All must hold. */
export type LabelSelector = readonly Requirement[]

interface Requirement {
  readonly key: string
  readonly operator: 'in' | 'notin' | 'exists' | 'missing'
  readonly values: readonly string[]
}

export type ParsedSelector =
  | { readonly kind: 'selector'; readonly selector: LabelSelector }
  | { readonly kind: 'invalid'; readonly reason: string }

/** Kubernetes' own syntax: `team=web,tier in (a,b),env!=dev,public,!internal`. */
export function parseSelector(text: string): ParsedSelector {
  const selector: Requirement[] = []
  // Commas separate requirements, but for those inside parentheses.
  for (const part of text.split(/,(?![^(]*\))/).map((part) => part.trim())) {
    if (part === '') continue
    const requirement = parseRequirement(part)
    if (requirement === undefined) {
      const shown = JSON.stringify(part.slice(0, 60))
      return {
        kind: 'invalid',
        reason: `${shown} is not a label requirement such as team=web or tier in (a,b)`
      }
    }
    selector.push(requirement)
  }
  return { kind: 'selector', selector }
}

const KEY = '([A-Za-z0-9](?:[A-Za-z0-9._/-]*[A-Za-z0-9])?)'
const VALUE = '([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?|)'
const EXISTS = new RegExp(`^(!?)\\s*${KEY}$`)
const EQUALS = new RegExp(`^${KEY}\\s*(=|==|!=)\\s*${VALUE}$`)
const ONE_OF = new RegExp(`^${KEY}\\s+(in|notin)\\s*\\(([^()]*)\\)$`)

function parseRequirement(part: string): Requirement | undefined {
  const exists = EXISTS.exec(part)
  if (exists) return { key: exists[2] ?? '', operator: exists[1] === '!' ? 'missing' : 'exists', values: [] }
  const equals = EQUALS.exec(part)
  if (equals) {
    const operator = equals[2] === '!=' ? 'notin' : 'in'
    return { key: equals[1] ?? '', operator, values: [equals[3] ?? ''] }
  }
  const oneOf = ONE_OF.exec(part)
  if (!oneOf) return undefined
  const values = (oneOf[3] ?? '').split(',').map((value) => value.trim())
  if (!values.every((value) => new RegExp(`^${VALUE}$`).test(value))) return undefined
  return { key: oneOf[1] ?? '', operator: oneOf[2] === 'in' ? 'in' : 'notin', values }
}

function selects(selector: LabelSelector, labels: Fields): boolean {
  return selector.every(({ key, operator, values }) => {
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
      default:
        return operator satisfies never
    }
  })
}

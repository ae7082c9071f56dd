// From a query to what is to be done with it, without a socket. There is no cache of answers: the name function takes 2 µs of
// the 35 that Node needs for a datagram, and a cache of encoded answers was measured to gain nothing.
import type { Names } from '../../core/dns/names.ts'
import type { Answer } from '../../core/dns/record.ts'
import type { Query } from './query.ts'
import { encodeAnswer, type Encoded } from './response.ts'

export type Outcome =
  | { readonly kind: 'answer'; readonly encoded: Encoded }
  | { readonly kind: 'forward' }
  /** The answer ends in a CNAME that leaves the mesh: to be resolved upstream, or `encoded` as it is. */
  | { readonly kind: 'chase'; readonly answer: Answer; readonly target: string; readonly encoded: Encoded }

/** Throws when a record of this name cannot be on the wire. `rotation`: of an answer that is too long, which part it begins with. */
export function outcomeOf(names: Names, query: Query, rotation = 0): Outcome {
  const reply = names.answer({ name: query.name, type: typeName(query.type) })
  if (reply.kind === 'forward') return reply
  const encoded = encodeAnswer(reply, query, rotation)
  const isChased = query.type === TYPE_A || query.type === TYPE_AAAA
  if (reply.externalTarget === undefined || !isChased) return { kind: 'answer', encoded }
  return { kind: 'chase', answer: reply, target: reply.externalTarget, encoded }
}

/** The mnemonics that core has records of; any other type is TYPE<number> (RFC 3597). */
export function typeName(type: number): string {
  return TYPE_NAMES.get(type) ?? `TYPE${type}`
}

/** Of a mnemonic that core has records of; of any other 0, which no record has. */
export function typeNumber(name: string): number {
  return [...TYPE_NAMES].find(([, known]) => known === name)?.[0] ?? 0
}

const TYPE_A = 1
const TYPE_AAAA = 28
const TYPE_NAMES: ReadonlyMap<number, string> = new Map([
  [1, 'A'],
  [2, 'NS'],
  [5, 'CNAME'],
  [6, 'SOA'],
  [12, 'PTR'],
  [16, 'TXT'],
  [28, 'AAAA'],
  [33, 'SRV'],
  [255, 'ANY']
])

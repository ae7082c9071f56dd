// Decides how a query is answered, without a socket: from the names of the mesh (core/dns/names.ts), or by the
// upstreams. Answers are not cached: the name function takes 2 µs of the 35 µs that Node needs for a datagram, and a
// measured cache of encoded answers was not faster.
import type { Names } from '../../core/dns/names.ts'
import type { Answer } from '../../core/dns/record.ts'
import type { Query } from './query.ts'
import { encodeAnswer, type Encoded } from './response.ts'

/** The decision about a query, which query-handler.ts carries out. */
export type Outcome =
  /** Send this answer now. */
  | { readonly kind: 'answer'; readonly encoded: Encoded }
  /** The name is outside the mesh: ask an upstream. */
  | { readonly kind: 'forward' }
  /**
   * The answer ends in a CNAME to `target` outside the mesh: resolve it upstream, or send `encoded` if there is no
   * upstream.
   */
  | { readonly kind: 'chase'; readonly answer: Answer; readonly target: string; readonly encoded: Encoded }

/**
 * `rotation` is a number ≥ 0: for an answer that is too long for any message, it selects the answer with which the part
 * that fits begins. Throws an Error when a name in a record cannot be encoded; query-handler.ts answers SERVFAIL then.
 */
export function outcomeOf(names: Names, query: Query, rotation = 0): Outcome {
  const reply = names.answer({ name: query.name, type: typeName(query.type) })
  if (reply.kind === 'forward') return reply
  const encoded = encodeAnswer(reply, query, rotation)
  // Only questions for addresses are resolved further; other types get the CNAME alone.
  const isChased = query.type === TYPE_A || query.type === TYPE_AAAA
  if (reply.externalTarget === undefined || !isChased) return { kind: 'answer', encoded }
  return { kind: 'chase', answer: reply, target: reply.externalTarget, encoded }
}

/**
 * Returns the mnemonic of a record type, as core/dns uses it. A type without records there is "TYPE<number>" (RFC 3597,
 * 5).
 */
export function typeName(type: number): string {
  return TYPE_NAMES.get(type) ?? `TYPE${type}`
}

/** The inverse of `typeName`. Returns 0, which no record has, for an unknown mnemonic. */
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

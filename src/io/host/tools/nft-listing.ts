// Parses `nft -j list table` (libnftables-json(5)) into elements and shape, and writes the mark of a table. The packet
// filter and the load balancer use it. The shape is all but the elements: chains, rules, and declarations of sets. Each
// table of ours has a set `about` with one element, whose comment is the mark: a digest of the text that this agent
// loaded, and a digest of the shape that nft lists of such a table (nft-shape.ts). If a later listing has another digest,
// another program has changed a chain or a rule, or another version of this agent made the table.
import { createHash } from 'node:crypto'
import type { Protocol } from '../../../core/model/values.ts'
import { parseOutput } from '../errors.ts'

/** A table as nft lists it. */
export interface NftListing {
  /** Elements of each set and map by its name, as nft prints them: a key, or [key, value] in a map. */
  readonly rows: ReadonlyMap<string, readonly unknown[]>
  /** Digest of all but elements, handles and counters, which change although the rules stay the same. */
  readonly shape: string
  /** Comment in the set `about`; undefined: there is none. */
  readonly about: string | undefined
}

/** The beginning of the names of empty sets that only a dormant copy has (nft-shape.ts). */
export const PADDING = 'padding-'

/** The declaration, in the text of a table, of the set `about`, which holds the mark of the table. */
export const ABOUT_SET = '  set about {\n    type mark\n  }'

/**
 * Parses a listing, with or without elements (`-t`). The shape is the same for any name of the table.
 * `isDormantCopy`: the table is a copy of nft-shape.ts, and its flag `dormant` is no part of the shape. Errors:
 * TOOL_FAILED for text that is not a listing.
 */
export function parseListing(json: string, { isDormantCopy = false } = {}): NftListing {
  const nftables = entriesOf(json)
  const rows = new Map<string, readonly unknown[]>()
  const shape: unknown[] = []
  for (const entry of nftables) {
    const [kind = '', value] = Object.entries(entry)[0] ?? []
    if (kind === 'metainfo') continue
    const { elem, ...rest } = asRecord(value)
    if (isDormantCopy && String(rest['name']).startsWith(PADDING)) continue
    shape.push({ [kind]: stable(unnamed(kind, rest, isDormantCopy)) })
    if (kind === 'set' || kind === 'map') rows.set(String(rest['name']), Array.isArray(elem) ? elem : [])
  }
  const [mark] = rows.get('about') ?? []
  return { rows, shape: digest(shape), about: mark === undefined ? undefined : commentOf(mark) }
}

/**
 * Returns the text for `nft -f` that writes the mark. `comment` has at most 128 characters, which is the limit of nft.
 * The text is a table with a set, because for `add element` nft first reads the elements of every interval set.
 */
export function aboutCommand(table: string, comment: string): string {
  const set = `  set about {\n    type mark\n    elements = { 1 comment "${comment}" }\n  }`
  return `table inet ${table} {\n${set}\n}\n`
}

/** Returns the first 12 bytes of the SHA-256 of the value as JSON, in hexadecimal. */
export function digest(value: unknown): string {
  return createHash('sha256').update(JSON.stringify(value)).digest('hex').slice(0, 24)
}

/** Returns the comment of an element; undefined: it has none. nft wraps an element in "elem" if it has a comment. */
export function commentOf(row: unknown): string | undefined {
  const comment = asRecord(asRecord(row)['elem'])['comment']
  return typeof comment === 'string' ? comment : undefined
}

/** Returns the key of an element, also where nft wraps the element in "elem" because of its comment. */
export function keyOfRow(row: unknown): unknown {
  return asRecord(asRecord(row)['elem'])['val'] ?? row
}

/** Returns the value as an object with unknown fields; an empty one for a value that is no object. */
export function asRecord(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null ? (value as Readonly<Record<string, unknown>>) : {}
}

/** Protocols as text for nft. They are numbers, because names need the file /etc/protocols on the host. */
export const PROTOCOL_NUMBER: Readonly<Record<Protocol, number>> = { TCP: 6, UDP: 17, SCTP: 132 }
/** Protocols as nft prints them: as a number, or as a name where the host has /etc/protocols. */
export const PROTOCOLS = new Map<unknown, Protocol>([
  [6, 'TCP'],
  [17, 'UDP'],
  [132, 'SCTP'],
  ['tcp', 'TCP'],
  ['udp', 'UDP'],
  ['sctp', 'SCTP']
])

/** Returns the entry without the name of its table, and for a dormant copy without the flags of the table. */
function unnamed(kind: string, entry: Readonly<Record<string, unknown>>, isDormantCopy: boolean): unknown {
  const { table: _, ...rest } = entry
  if (kind !== 'table') return rest
  const { name: __, flags, ...bare } = rest
  return flags === undefined || isDormantCopy ? bare : { ...bare, flags }
}

// Fields that nft lists with another value after each load of the table or after each packet.
const UNSTABLE: ReadonlySet<string> = new Set(['handle', 'packets', 'bytes'])

/** Returns the value without the unstable fields, at every depth. */
function stable(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(stable)
  if (typeof value !== 'object' || value === null) return value
  const kept = Object.entries(value).filter(([name]) => !UNSTABLE.has(name))
  return Object.fromEntries(kept.map(([name, inner]) => [name, stable(inner)]))
}

function entriesOf(json: string): readonly Readonly<Record<string, unknown>>[] {
  return parseOutput('nft', () => {
    const { nftables } = asRecord(JSON.parse(json))
    if (!Array.isArray(nftables)) throw new Error('nft: no list "nftables"')
    return nftables.map(asRecord)
  })
}

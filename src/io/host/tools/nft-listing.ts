// What `nft -j list table` says, told apart into elements and shape, and the mark by which a table knows its own shape.
// Each table of ours has a set `about` with one element, whose comment says what we made and how the kernel listed it then.
// A different listing later means that another program changed a chain or a rule, or that an older version of this agent made it.
import { createHash } from 'node:crypto'
import type { Protocol } from '../../../core/model/values.ts'
import { unreadable } from '../errors.ts'

export interface NftListing {
  /** Rows of each set and map, as nft prints them: a key, or [key, value]. */
  readonly rows: ReadonlyMap<string, readonly unknown[]>
  /** Digest of everything but elements, handles and counters. */
  readonly shape: string
  /** Comment in the set `about`; undefined: none. */
  readonly about: string | undefined
}

/** Declares the set `about`. */
export const ABOUT_SET = '  set about {\n    type mark\n  }'

/** Errors: TOOL_FAILED for what is no listing. */
export function parseListing(json: string): NftListing {
  const nftables = entriesOf(json)
  const rows = new Map<string, readonly unknown[]>()
  const shape: unknown[] = []
  for (const entry of nftables) {
    const [kind = '', value] = Object.entries(entry)[0] ?? []
    if (kind === 'metainfo') continue
    const { elem, ...rest } = asRecord(value)
    shape.push({ [kind]: stable(rest) })
    if (kind === 'set' || kind === 'map') rows.set(String(rest['name']), Array.isArray(elem) ? elem : [])
  }
  const [mark] = rows.get('about') ?? []
  return { rows, shape: digest(shape), about: mark === undefined ? undefined : commentOf(mark) }
}

/**
 * The text that writes the mark, of at most 128 characters, which is what nft holds. As a table with a set, because for `add element` nft
 * reads the elements of every interval set of the host first.
 */
export function aboutCommand(table: string, comment: string): string {
  const set = `  set about {\n    type mark\n    elements = { 1 comment "${comment}" }\n  }`
  return `table inet ${table} {\n${set}\n}\n`
}

/** 12 bytes as hex. */
export function digest(value: unknown): string {
  return createHash('sha256').update(JSON.stringify(value)).digest('hex').slice(0, 24)
}

/** An element's comment. */
export function commentOf(row: unknown): string | undefined {
  const comment = asRecord(asRecord(row)['elem'])['comment']
  return typeof comment === 'string' ? comment : undefined
}

/** An element's key without its comment. */
export function keyOfRow(row: unknown): unknown {
  return asRecord(asRecord(row)['elem'])['val'] ?? row
}

export function asRecord(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null ? (value as Readonly<Record<string, unknown>>) : {}
}

/** As nft reads them: names need /etc/protocols. */
export const PROTOCOL_NUMBER: Readonly<Record<Protocol, number>> = { TCP: 6, UDP: 17, SCTP: 132 }
/** As nft prints them. */
export const PROTOCOLS = new Map<unknown, Protocol>([
  [6, 'TCP'],
  [17, 'UDP'],
  [132, 'SCTP'],
  ['tcp', 'TCP'],
  ['udp', 'UDP'],
  ['sctp', 'SCTP']
])

const UNSTABLE: ReadonlySet<string> = new Set(['handle', 'packets', 'bytes'])

function stable(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(stable)
  if (typeof value !== 'object' || value === null) return value
  const kept = Object.entries(value).filter(([name]) => !UNSTABLE.has(name))
  return Object.fromEntries(kept.map(([name, inner]) => [name, stable(inner)]))
}

function entriesOf(json: string): readonly Readonly<Record<string, unknown>>[] {
  try {
    const { nftables } = asRecord(JSON.parse(json))
    if (Array.isArray(nftables)) return nftables.map(asRecord)
  } catch (cause) {
    throw unreadable('nft', cause)
  }
  throw unreadable('nft', undefined)
}

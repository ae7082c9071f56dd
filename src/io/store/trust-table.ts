// The tables of trust in the database: the statements that this agent holds, and the two small tables that it keeps
// beside them. Key and content:
//
//   t/<id>            encoded TrustItem of the statement; it verifies itself
//   o/<claim>         key of the cluster that has a name or a prefix in force here (E1)
//   n/<cluster key>   highest generation of this cluster that this agent has seen (S8)
//
// Ids and keys are 64 hexadecimal digits. A damaged row is dropped with a warning, and the database stays in use: peers
// have every statement, and both small tables follow from the set again.
// Source: docs/trust-set.md, "On disk".
import type { KeyId, StatementId } from '../../core/trust/set/ids.ts'
import { put, remove, unseal, type Op } from './rows.ts'

/** What the store holds of trust. */
export interface StoredTrust {
  /** Encoded TrustItems, in no order. Add all of them to the set in one call: one may be the sponsor of another. */
  readonly items: readonly Uint8Array[]
  /** "name east" or a prefix, to the key of the cluster that has it in force. */
  readonly owners: ReadonlyMap<string, KeyId>
  readonly generations: ReadonlyMap<KeyId, number>
}

/** A statement to write. */
export interface StoredStatement {
  readonly id: StatementId
  /** The encoded TrustItem that is about this statement. */
  readonly item: Uint8Array
}

/**
 * One change, which is written as one atomic batch. `owners` and `generations` are whole tables: rows that they do not
 * have are removed. A generation on disk never falls.
 */
export interface TrustChange {
  readonly save?: readonly StoredStatement[]
  readonly remove?: readonly StatementId[]
  readonly owners?: ReadonlyMap<string, KeyId>
  readonly generations?: ReadonlyMap<KeyId, number>
}

/** The small tables as they are on disk, so that only what differs is written. */
export interface TrustLayout {
  readonly owners: Map<string, KeyId>
  readonly generations: Map<KeyId, number>
}

/** The rows of trust that a scan has found so far. */
export class FoundTrust implements StoredTrust {
  readonly items: Uint8Array[] = []
  readonly owners = new Map<string, KeyId>()
  readonly generations = new Map<KeyId, number>()
  /** Steps that remove damaged rows. */
  readonly repairs: Op[] = []
  readonly #damaged = { t: 0, o: 0, n: 0 }

  /** Takes a row; false when it is none of trust. */
  take(rawKey: Buffer, key: string, row: Uint8Array): boolean {
    const [, table, name = ''] = /^([ont])\/(.*)$/s.exec(key) ?? []
    if (table !== 't' && table !== 'o' && table !== 'n') return false
    if (this.#keep(table, name, unseal(key, row))) return true
    this.#damaged[table]++
    this.repairs.push({ type: 'del', key: rawKey })
    return true
  }

  /** A sentence for the operator for each table with damaged rows. */
  warnings(): readonly string[] {
    const { t, o, n } = this.#damaged
    return [
      ...(t > 0
        ? [
            `${t} stored statements of trust were damaged and dropped; the agent pulls them again from its peers`
          ]
        : []),
      ...(o > 0
        ? [
            `${o} rows of the table of owners were damaged and dropped; where two clusters claim the same, the first one by the order of all members is in force`
          ]
        : []),
      ...(n > 0
        ? [
            `${n} rows of the table of generations were damaged and dropped; the agent learns them again from the certificates of its peers`
          ]
        : [])
    ]
  }

  /** Keeps a sound row. Returns false for a damaged one. */
  #keep(table: 't' | 'o' | 'n', name: string, content: Uint8Array | undefined): boolean {
    if (content === undefined) return false
    if (table === 't') {
      if (!HEXADECIMAL_32.test(name)) return false
      this.items.push(content)
      return true
    }
    if (table === 'o') {
      const key = new TextDecoder().decode(content)
      if (!HEXADECIMAL_32.test(key)) return false
      this.owners.set(name, key as KeyId)
      return true
    }
    const generation = content.length === 8 ? Number(viewOf(content).getBigUint64(0)) : undefined
    if (generation === undefined || !HEXADECIMAL_32.test(name)) return false
    this.generations.set(name as KeyId, generation)
    return true
  }
}

/** The steps of a change. There are none when the disk has it already. */
export function trustOps(change: TrustChange, layout: TrustLayout): Op[] {
  const ops: Op[] = []
  for (const { id, item } of change.save ?? []) ops.push(put(`t/${id}`, item))
  for (const id of change.remove ?? []) ops.push(remove(`t/${id}`))
  if (change.owners !== undefined) {
    for (const [claim, key] of change.owners)
      if (layout.owners.get(claim) !== key) ops.push(put(`o/${claim}`, new TextEncoder().encode(key)))
    for (const claim of layout.owners.keys()) if (!change.owners.has(claim)) ops.push(remove(`o/${claim}`))
  }
  if (change.generations !== undefined) {
    for (const [key, generation] of change.generations)
      if (generation > (layout.generations.get(key) ?? -1))
        ops.push(put(`n/${key}`, encodeGeneration(generation)))
    for (const key of layout.generations.keys())
      if (!change.generations.has(key)) ops.push(remove(`n/${key}`))
  }
  return ops
}

/** Takes note of a change that is on disk. */
export function noteTrust({ owners, generations }: TrustChange, layout: TrustLayout): void {
  if (owners !== undefined) {
    layout.owners.clear()
    for (const [claim, key] of owners) layout.owners.set(claim, key)
  }
  if (generations === undefined) return
  const before = new Map(layout.generations)
  layout.generations.clear()
  for (const [key, generation] of generations)
    layout.generations.set(key, Math.max(generation, before.get(key) ?? 0))
}

const HEXADECIMAL_32 = /^[0-9a-f]{64}$/

/** Content of a row n: 8 bytes, big-endian. */
function encodeGeneration(generation: number): Uint8Array {
  const content = new Uint8Array(8)
  viewOf(content).setBigUint64(0, BigInt(generation))
  return content
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}

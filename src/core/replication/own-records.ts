// The records that this agent publishes: they are validated and cut to the limits before they are signed.
// Invariants
//   1. Every published value has passed the decoder that other agents of this version use, byte for byte, and their
//      check of tunnel keys. A value that does not pass is left out alone; of the agent's and the cluster's own record the valid fields are published.
//   2. The published records fit into the limits that other agents enforce. When they would not, each namespace gets a
//      fair share, and the choice depends only on the wanted values: it is the same after a restart and for any order
//      of changes.
//   3. A value that was left out is published as soon as there is room for it.
import { decodeValue, encodeValue } from '../wire/value-codec.ts'
import { lazySlice } from '../wire/lazy-slice.ts'
import { type ReplicaLimits } from './limits.ts'
import { RECORD_BYTES_MAX } from '../wire/limits.ts'
import type { Cidr, Value } from '../model/values.ts'
import { isKey, recordBytes, type StoredRecord, type ValueChange } from './record.ts'
import { reducedValue } from './reduced-value.ts'
import type { Change } from './replica.ts'

/** The own values that are not published. */
export interface LeftOut {
  /** Values that other agents would refuse, at most REFUSED_MAX of them. */
  readonly refused: readonly { readonly key: string; readonly reason: string; readonly reduced: boolean }[]
  /** Namespaces with values for which there is no room, sorted by name. */
  readonly namespaces: readonly NamespaceLeftOut[]
}

/** The values of one namespace for which there is no room. */
interface NamespaceLeftOut {
  readonly namespace: string
  /** Services and endpoint slices that are left out. */
  readonly services: number
  readonly endpointSlices: number
  /** Bytes of all values of the namespace, and of those that are published. */
  readonly wantedBytes: number
  readonly publishedBytes: number
}

// Twenty fit on an operator's screen; the others have the same causes as a rule.
const REFUSED_MAX = 20
// The share of a namespace changes in steps, so that a small change in one namespace does not change the choice in all
// of them.
const SHARE_STEP_BYTES = 256 * 1024
const SHARE_STEP_KEYS = 256
// Room is reserved for the records of the agent and the cluster.
const RESERVED_KEYS = 2
const RESERVED_BYTES = 2 * recordBytes('cluster', RECORD_BYTES_MAX)

/** The wanted values of this agent, by namespace, and the choice among them. */
export class OwnRecords {
  readonly #keysMax: number
  readonly #bytesMax: number
  /** Reads the encoded value of a key that is published or about to be. */
  readonly #read: (key: string) => Uint8Array | undefined
  readonly #refusalOf: (value: Value) => string | undefined
  /** The wanted keys by namespace. A namespace without keys has no entry. */
  readonly #shares = new Map<string, Share>()
  readonly #refused = new Map<string, { readonly reason: string; readonly reduced: boolean }>()
  /** The number of all wanted keys, and the bytes of their keys and values, published or waiting. */
  #keys = 0
  #bytes = 0
  /** True when the latest choice left values out. */
  #isCut = false
  /** True when the list of left-out values has changed since `takeNews`. */
  #news = false

  constructor(options: {
    readonly limits: Pick<ReplicaLimits, 'keysPerOriginMax' | 'bytesPerOriginMax'>
    readonly read: (key: string) => Uint8Array | undefined
    /** Returns why other agents would refuse a value that they can decode; undefined: they would not. */
    readonly refusalOf: (value: Value) => string | undefined
    /** The records that were published before the restart. */
    readonly published: Iterable<StoredRecord>
  }) {
    this.#keysMax = Math.max(0, options.limits.keysPerOriginMax - RESERVED_KEYS)
    this.#bytesMax = Math.max(0, options.limits.bytesPerOriginMax - RESERVED_BYTES)
    this.#read = options.read
    this.#refusalOf = options.refusalOf
    for (const record of options.published) {
      const { key } = record
      if (!isReserved(key)) this.#resize(key, recordBytes(key, record.valueBytes ?? record.value.length))
    }
  }

  /** Every key that is published or waits for room. */
  keys(): readonly string[] {
    return [...this.#shares.values()].flatMap(({ sizes }) => [...sizes.keys()])
  }

  /** Which part of the limits the wanted values use, published or not; above 1 some are left out. */
  used(): { readonly keys: number; readonly bytes: number } {
    return { keys: this.#keys / this.#keysMax, bytes: this.#bytes / this.#bytesMax }
  }

  /** Returns the changes to write, at most one for each key. */
  apply(changes: readonly ValueChange[]): readonly Change[] {
    const writes = new Map<string, Uint8Array | undefined>()
    const touched = new Set<Share>()
    for (const { key, value } of changes) {
      const encoded = value && this.#encode(key, value)
      if (value === undefined) this.#forgive(key)
      if (isReserved(key)) {
        if (value === undefined || encoded !== undefined) writes.set(key, encoded)
        continue
      }
      const share = this.#resize(key, encoded && recordBytes(key, encoded.length))
      touched.add(share)
      if (share.waiting.delete(key)) this.#news = true
      writes.set(key, encoded)
    }
    const isOver = this.#keys > this.#keysMax || this.#bytes > this.#bytesMax
    if (isOver || this.#isCut) this.#share(writes, touched)
    this.#isCut = isOver
    for (const share of touched) if (share.sizes.size === 0) this.#shares.delete(share.namespace)
    return [...writes].map(([key, value]) => ({ key, value }))
  }

  /** The values that are left out; undefined when the list is unchanged since the last call. */
  takeNews(): LeftOut | undefined {
    if (!this.#news) return undefined
    this.#news = false
    return {
      refused: [...this.#refused].slice(0, REFUSED_MAX).map(([key, why]) => ({ key, ...why })),
      namespaces: [...this.#shares.values()]
        .filter(({ waiting }) => waiting.size > 0)
        .map(leftOutOf)
        .sort((a, b) => (a.namespace < b.namespace ? -1 : 1))
    }
  }

  /** Encodes a value, reduced if necessary; undefined when other agents would refuse it. */
  #encode(key: string, value: Value): Uint8Array | undefined {
    const first = this.#encodeOwn(key, value)
    if (first.kind === 'bytes') {
      this.#forgive(key)
      return first.bytes
    }
    const less = reducedValue(value, (each) => this.#encodeOwn(key, each).kind === 'bytes')
    const second = less && this.#encodeOwn(key, less)
    this.#refuse(key, { reason: first.reason, reduced: second?.kind === 'bytes' })
    return second?.kind === 'bytes' ? second.bytes : undefined
  }

  /** The encoded value, or the reason why other agents would refuse it (invariant 1). */
  #encodeOwn(key: string, value: Value): Encoded {
    const encoded = encodeOwn(key, value)
    const reason = encoded.kind === 'bytes' ? this.#refusalOf(value) : undefined
    return reason === undefined ? encoded : { kind: 'refused', reason }
  }

  /** Remembers why the value of a key is not published, or not as a whole. */
  #refuse(key: string, why: { readonly reason: string; readonly reduced: boolean }): void {
    const before = this.#refused.get(key)
    if (before?.reason === why.reason && before.reduced === why.reduced) return
    this.#refused.set(key, why)
    this.#news = true
  }

  #forgive(key: string): void {
    if (this.#refused.delete(key)) this.#news = true
  }

  /** Sets the size of a key in bytes; undefined removes the key. */
  #resize(key: string, size: number | undefined): Share {
    const share = this.#shareOf(key)
    const before = share.sizes.get(key)
    if ((size === undefined) !== (before === undefined)) share.order = undefined
    if (size === undefined) share.sizes.delete(key)
    else share.sizes.set(key, size)
    const [keys, bytes] = [
      Number(size !== undefined) - Number(before !== undefined),
      (size ?? 0) - (before ?? 0)
    ]
    this.#keys += keys
    this.#bytes += bytes
    share.bytes += bytes
    return share
  }

  #shareOf(key: string): Share {
    const namespace = namespaceOf(key)
    let share = this.#shares.get(namespace)
    if (share === undefined) {
      share = {
        namespace,
        sizes: new Map(),
        bytes: 0,
        order: undefined,
        waiting: new Map(),
        cap: UNCUT,
        publishedBytes: 0
      }
      this.#shares.set(namespace, share)
    }
    return share
  }

  /** Chooses the published keys again in each namespace that was touched or whose share has changed (invariant 2). */
  #share(writes: Map<string, Uint8Array | undefined>, touched: ReadonlySet<Share>): void {
    const shares = [...this.#shares.values()]
    const level = {
      bytes: fairLevel(
        shares.map(({ bytes }) => bytes),
        this.#bytesMax,
        SHARE_STEP_BYTES
      ),
      keys: fairLevel(
        shares.map(({ sizes }) => sizes.size),
        this.#keysMax,
        SHARE_STEP_KEYS
      )
    }
    for (const share of shares) {
      const fits = share.bytes <= level.bytes && share.sizes.size <= level.keys
      const cap = fits ? UNCUT : level
      const isAsBefore = cap.bytes === share.cap.bytes && cap.keys === share.cap.keys
      if (isAsBefore && (cap === UNCUT || !touched.has(share))) continue
      share.cap = cap
      this.#choose(share, writes)
    }
  }

  /** Publishes the keys of one namespace in their order as far as they fit, and moves the others to `waiting`. */
  #choose(share: Share, writes: Map<string, Uint8Array | undefined>): void {
    let [bytes, keys] = [0, 0]
    for (const key of inOrder(share)) {
      const size = share.sizes.get(key) ?? 0
      const hasRoom = keys < share.cap.keys && bytes + size <= share.cap.bytes
      const waits = share.waiting.get(key)
      if (hasRoom) {
        keys += 1
        bytes += size
        if (waits === undefined) continue
        share.waiting.delete(key)
        writes.set(key, waits)
      } else if (waits === undefined) {
        const value = writes.get(key) ?? this.#read(key)
        if (value === undefined) continue
        share.waiting.set(key, value)
        writes.set(key, undefined)
      } else continue
      this.#news = true
    }
    share.publishedBytes = bytes
  }
}

/** The most bytes and keys that one namespace may publish. */
interface Cap {
  readonly bytes: number
  readonly keys: number
}

const UNCUT: Cap = { bytes: Infinity, keys: Infinity }

/** One namespace: its wanted keys and which of them wait. */
interface Share {
  readonly namespace: string
  /** Bytes of every wanted key, as the limits count them. */
  readonly sizes: Map<string, number>
  bytes: number
  /** The sorted keys of `sizes`; undefined after a key was added or removed. */
  order: readonly string[] | undefined
  /** Encoded values for which there is no room. */
  readonly waiting: Map<string, Uint8Array>
  cap: Cap
  publishedBytes: number
}

/** Sorts services before slices, so that names resolve, and then by key. */
function inOrder(share: Share): readonly string[] {
  share.order ??= [...share.sizes.keys()].sort((a, b) => {
    const isService = Number(b.startsWith('svc/')) - Number(a.startsWith('svc/'))
    return isService === 0 ? (a < b ? -1 : 1) : isService
  })
  return share.order
}

/**
 * The max-min fair share of `total`: a demand below the share is met in full, and all others get the share. The result
 * is rounded down to a multiple of `step` where it is larger than one step; Infinity when all demands fit.
 */
export function fairLevel(wanted: readonly number[], total: number, step: number): number {
  let [left, others] = [total, wanted.length]
  for (const each of wanted.toSorted((a, b) => a - b)) {
    const share = left / others
    if (each > share) return share > step ? Math.floor(share / step) * step : Math.floor(share)
    left -= each
    others -= 1
  }
  return Infinity
}

type Encoded =
  | { readonly kind: 'bytes'; readonly bytes: Uint8Array }
  | { readonly kind: 'refused'; readonly reason: string }

/** The encoded value, or the reason why other agents cannot decode it. */
function encodeOwn(key: string, value: Value): Encoded {
  const bytes = encodedOrWhy(value)
  if (typeof bytes === 'string') return { kind: 'refused', reason: bytes }
  if (!isKey(key)) return { kind: 'refused', reason: 'its key has characters other than printable ASCII' }
  if (bytes.length > RECORD_BYTES_MAX)
    return { kind: 'refused', reason: `it has ${bytes.length} bytes, above the limit of ${RECORD_BYTES_MAX}` }
  // Nearly all values are endpoint slices. Reading one in place makes the same checks as the decoder, without its
  // objects.
  if (lazySlice({ key, value: bytes, read: () => bytes, within: EVERYWHERE }) !== undefined)
    return { kind: 'bytes', bytes }
  const decoded = decodeValue(key, bytes)
  return decoded.kind === 'value' ? { kind: 'bytes', bytes } : { kind: 'refused', reason: decoded.reason }
}

function encodedOrWhy(value: Value): Uint8Array | string {
  try {
    return encodeValue(value)
  } catch (error) {
    // A field has another type than the model says: a fault in the code that made this value.
    return `it cannot be encoded: ${error instanceof Error ? error.message : String(error)}`
  }
}

const EVERYWHERE: readonly Cidr[] = ['0.0.0.0/0' as Cidr, '::/0' as Cidr]

function leftOutOf({ namespace, waiting, bytes, publishedBytes }: Share): NamespaceLeftOut {
  const services = [...waiting.keys()].filter((key) => key.startsWith('svc/')).length
  return {
    namespace,
    services,
    endpointSlices: waiting.size - services,
    wantedBytes: bytes,
    publishedBytes
  }
}

/** True for the records of the agent and the cluster, for which room is reserved. */
function isReserved(key: string): boolean {
  return key === 'agent' || key === 'cluster'
}

/** "shop" of "svc/shop/web" */
function namespaceOf(key: string): string {
  return key.split('/', 2)[1] ?? ''
}

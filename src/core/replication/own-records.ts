// What this agent publishes: between what its source and its host say, and what it signs.
// Invariants
//   1. Every value that leaves passed the decoder of the others in this version, byte for byte as it leaves. One that does not pass
//      is left out, alone; of the agent's and the cluster's own record, what passes of it is published.
//   2. What is published fits into the caps that the others enforce. Where more is wanted, each namespace has a fair share, and what
//      has room in it depends on nothing but what is wanted: the same after a restart, in whatever order the changes came.
//   3. What was left out is published as soon as there is room for it.
import { decodeValue, encodeValue } from '../wire/value-codec.ts'
import { lazySlice } from '../wire/lazy-slice.ts'
import { type ReplicaLimits } from './limits.ts'
import { RECORD_BYTES_MAX } from '../wire/limits.ts'
import type { Cidr, Value } from '../model/values.ts'
import { isKey, type StoredRecord, type ValueChange } from './record.ts'
import { reducedValue } from './reduced-value.ts'
import type { Change } from './replica.ts'

export interface LeftOut {
  /** Values that the others would not decode, at most REFUSED_MAX of them. */
  readonly refused: readonly { readonly key: string; readonly reason: string; readonly reduced: boolean }[]
  /** In order of name. */
  readonly namespaces: readonly NamespaceLeftOut[]
}

export interface NamespaceLeftOut {
  readonly namespace: string
  readonly services: number
  readonly endpointSlices: number
  /** Of all that the namespace wants to publish, and of what has room. */
  readonly wantedBytes: number
  readonly publishedBytes: number
}

// A page for an operator; the rest has the same causes.
const REFUSED_MAX = 20
// The share of a namespace moves in steps, so that a small change in one does not choose anew in all.
const SHARE_STEP_BYTES = 256 * 1024
const SHARE_STEP_KEYS = 256
// The agent's and the cluster's record have room in any case.
const RESERVED_KEYS = 2
const RESERVED_BYTES = 2 * (RECORD_BYTES_MAX + 16)

export class OwnRecords {
  readonly #keysMax: number
  readonly #bytesMax: number
  /** A value that is published, or about to be. */
  readonly #read: (key: string) => Uint8Array | undefined
  readonly #shares = new Map<string, Share>()
  readonly #refused = new Map<string, { readonly reason: string; readonly reduced: boolean }>()
  #keys = 0
  #bytes = 0
  #isCut = false
  #news = false

  constructor(options: {
    readonly limits: Pick<ReplicaLimits, 'keysPerOriginMax' | 'bytesPerOriginMax'>
    readonly read: (key: string) => Uint8Array | undefined
    /** What an earlier life has published. */
    readonly published: Iterable<StoredRecord>
  }) {
    this.#keysMax = Math.max(0, options.limits.keysPerOriginMax - RESERVED_KEYS)
    this.#bytesMax = Math.max(0, options.limits.bytesPerOriginMax - RESERVED_BYTES)
    this.#read = options.read
    for (const record of options.published) {
      const { key } = record
      if (!isReserved(key)) this.#resize(key, key.length + (record.valueBytes ?? record.value.length))
    }
  }

  /** Every key that is published or waits for room. */
  keys(): readonly string[] {
    return [...this.#shares.values()].flatMap(({ sizes }) => [...sizes.keys()])
  }

  /** What has to be written for these changes; a key is in the answer at most once. */
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
      const share = this.#resize(key, encoded && key.length + encoded.length)
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

  /** Undefined: as it was when last asked. */
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

  /** Undefined: the others would refuse it. */
  #encode(key: string, value: Value): Uint8Array | undefined {
    const first = encodeOwn(key, value)
    if (first.kind === 'bytes') {
      this.#forgive(key)
      return first.bytes
    }
    const less = reducedValue(value, (each) => encodeOwn(key, each).kind === 'bytes')
    const second = less && encodeOwn(key, less)
    this.#refuse(key, { reason: first.reason, reduced: second?.kind === 'bytes' })
    return second?.kind === 'bytes' ? second.bytes : undefined
  }

  #refuse(key: string, why: { readonly reason: string; readonly reduced: boolean }): void {
    const before = this.#refused.get(key)
    if (before?.reason === why.reason && before.reduced === why.reduced) return
    this.#refused.set(key, why)
    this.#news = true
  }

  #forgive(key: string): void {
    if (this.#refused.delete(key)) this.#news = true
  }

  /** `size` undefined: it is not wanted any more. */
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

  /** Chooses anew in each namespace that was touched or whose share is another one (invariant 2). */
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

interface Cap {
  readonly bytes: number
  readonly keys: number
}

const UNCUT: Cap = { bytes: Infinity, keys: Infinity }

interface Share {
  readonly namespace: string
  /** Of every key that is wanted: its bytes as the caps count them. */
  readonly sizes: Map<string, number>
  bytes: number
  /** The keys of `sizes`, once they are asked for in order; undefined after one came or went. */
  order: readonly string[] | undefined
  /** What has no room. */
  readonly waiting: Map<string, Uint8Array>
  cap: Cap
  publishedBytes: number
}

/** Services before slices, so that names resolve; then by key. */
function inOrder(share: Share): readonly string[] {
  share.order ??= [...share.sizes.keys()].sort((a, b) => {
    const isService = Number(b.startsWith('svc/')) - Number(a.startsWith('svc/'))
    return isService === 0 ? (a < b ? -1 : 1) : isService
  })
  return share.order
}

/**
 * What each may have so that all together stay within `total`: who wants less has what it wants, the others the same each
 * (max-min fairness). In whole steps where it is more than one.
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

/** The bytes that leave, or why the others would refuse them (invariant 1). */
function encodeOwn(
  key: string,
  value: Value
):
  | { readonly kind: 'bytes'; readonly bytes: Uint8Array }
  | { readonly kind: 'refused'; readonly reason: string } {
  const bytes = encodedOrWhy(value)
  if (typeof bytes === 'string') return { kind: 'refused', reason: bytes }
  if (!isKey(key)) return { kind: 'refused', reason: 'its name does not make a key of printable ASCII' }
  if (bytes.length > RECORD_BYTES_MAX)
    return { kind: 'refused', reason: `it has ${bytes.length} bytes, more than ${RECORD_BYTES_MAX}` }
  // Nearly all that is published are slices, and this reads them in place.
  if (lazySlice({ key, value: bytes, read: () => bytes, within: EVERYWHERE }) !== undefined)
    return { kind: 'bytes', bytes }
  const decoded = decodeValue(key, bytes)
  return decoded.kind === 'value' ? { kind: 'bytes', bytes } : { kind: 'refused', reason: decoded.reason }
}

function encodedOrWhy(value: Value): Uint8Array | string {
  try {
    return encodeValue(value)
  } catch (error) {
    // A field of another type than the model's: of whatever made this value.
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

function isReserved(key: string): boolean {
  return key === 'agent' || key === 'cluster'
}

/** "shop" of "svc/shop/web" */
function namespaceOf(key: string): string {
  return key.split('/', 2)[1] ?? ''
}

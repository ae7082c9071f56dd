// Endpoint slices whose endpoints are decoded only when a caller reads them. A view needs the name of each slice at
// once and most endpoints never: a million endpoints as objects take 200 MB and a second to make, and the replica
// holds their bytes anyway. The view (authorise.ts), the DNS process (fed-names.ts) and the check of own records read
// slices through this file.
// Invariants
//   1. A slice that is returned is the one that decodeValue would return, endpoints included: its bytes were checked
//      here, in place.
//   2. Every address in it lies in the prefixes given. Bytes that are not plain (an address outside, unknown fields,
//      another spelling) are left to decodeValue and its caller, which name what is wrong.
import { cidrToPrefix } from '../model/cidr.ts'
import { ADDRESSES_MAX, decodeValue, encodeValue, ENDPOINTS_MAX } from './value-codec.ts'
import type { Cidr, Endpoint, EndpointSliceValue } from '../model/values.ts'
import {
  ByteReader,
  findEndpoints,
  SLICE_TAG,
  varintBytes,
  writeVarint,
  type EndpointRun
} from './slice-bytes.ts'
import { decodeValueMessage } from './messages.ts'
import { areZoneNumbers } from './zone-table.ts'

/**
 * The slice under `key` with lazy endpoints; undefined when its bytes are not plain (invariant 2) or have more than
 * 1,000 endpoints. `read` returns the bytes of `value` again at any later time. The endpoints are held weakly: they
 * are decoded again when the garbage collector has taken them.
 */
export function lazySlice(options: {
  readonly key: string
  readonly value: Uint8Array
  readonly read: () => Uint8Array
  readonly within: readonly Cidr[]
}): EndpointSliceValue | undefined {
  const { key, value, read } = options
  const run = findEndpoints(value)
  if (run === undefined || run.count > ENDPOINTS_MAX) return undefined
  const slot = withoutEndpoints(value, run)
  const head = decodeValue(key, slot)
  if (head.kind === 'invalid' || head.value.kind !== 'endpointSlice') return undefined
  // The zone table is the one field after the endpoints; most slices have none.
  const isLast = run.end === value.length
  const zones = isLast ? 0 : (decodeValueMessage(slot)?.endpointSlice?.zones.length ?? 0)
  if (!arePlain(value, run, { within: blocksOf(options.within), zones })) return undefined
  const { namespace, name, service, ports } = head.value
  const slice = { kind: 'endpointSlice', namespace, name, service, ports } as const
  return Object.defineProperties(slice, { endpoints: ENDPOINTS, [SOURCE]: { value: { key, read } } }) as Lazy
}

/** The encoded value of a slice: the bytes behind a lazy slice, without decoding, or else a new encoding. */
export function sliceBytes(slice: EndpointSliceValue): Uint8Array {
  return SOURCE in slice ? (slice as Lazy)[SOURCE].read() : encodeValue(slice)
}

/** The accessor of `endpoints`, which all lazy slices share: a closure for each slice would cost 500 bytes. */
const ENDPOINTS: PropertyDescriptor & ThisType<Lazy> = {
  enumerable: true,
  get() {
    const source = this[SOURCE]
    const known = source.last?.deref()
    if (known !== undefined) return known
    const whole = decodeValue(source.key, source.read())
    if (whole.kind === 'invalid' || whole.value.kind !== 'endpointSlice')
      throw new Error(`the slice ${source.key} was sound before`) // invariant 1
    source.last = new WeakRef(whole.value.endpoints)
    return whole.value.endpoints
  }
}

/**
 * Where a lazy slice keeps its bytes. The property is not enumerable, so copies and comparisons of slices do not see
 * it.
 */
const SOURCE: unique symbol = Symbol('source')

interface Lazy extends EndpointSliceValue {
  readonly [SOURCE]: {
    readonly key: string
    readonly read: () => Uint8Array
    last?: WeakRef<readonly Endpoint[]>
  }
}

/** An address lies in a block when its first `bits` bits are those of `bytes`. */
interface Block {
  readonly bytes: Uint8Array
  readonly bits: number
}

// A cache of prefixes as bytes, by the identity of their list: a view checks thousands of slices against the same
// list.
const blocks = new WeakMap<readonly Cidr[], readonly Block[]>()

function blocksOf(prefixes: readonly Cidr[]): readonly Block[] {
  let known = blocks.get(prefixes)
  if (known === undefined) {
    known = prefixes.map((prefix) => {
      const { address, length } = cidrToPrefix(prefix)
      return { bytes: address, bits: length }
    })
    blocks.set(prefixes, known)
  }
  return known
}

/** What the endpoints of a slice are checked against. */
interface Bounds {
  readonly within: readonly Block[]
  /** The number of names in the zone table of the slice. */
  readonly zones: number
}

/** Whether every endpoint of the run is plain and has only addresses inside the blocks. */
function arePlain(value: Uint8Array, run: EndpointRun, bounds: Bounds): boolean {
  const reader = new ByteReader(value, run.start)
  while (reader.at < run.end) {
    reader.at++ // the tag
    const length = reader.varint()
    const end = reader.at + length
    if (!isPlain(value, { at: reader.at, end }, bounds)) return false
    reader.at = end
  }
  return true
}

interface Span {
  readonly at: number
  readonly end: number
}

// The fields of Endpoint as tags: addresses, ready, serving, terminating, hostname, node, zone, for_zones (packed).
const [ADDRESS, READY, SERVING, TERMINATING, HOSTNAME, NODE] = [0x0a, 0x10, 0x18, 0x20, 0x2a, 0x32]
const [ZONE, FOR_ZONES] = [0x38, 0x42]

/**
 * Whether one endpoint has its fields in their order, each once except addresses, which come first. At least one
 * address is needed.
 */
function isPlain(value: Uint8Array, { at: start, end }: Span, { within, zones }: Bounds): boolean {
  let [at, last, addresses] = [start, 0, 0]
  while (at < end) {
    const tag = value[at++] ?? 0
    if (tag < last || (tag === last && tag !== ADDRESS)) return false
    last = tag
    if (tag === READY || tag === SERVING || tag === TERMINATING) {
      if ((value[at++] ?? 2) > 1) return false
      continue
    }
    if (tag === ZONE) {
      // A table has at most 64 names, so each number has one byte.
      if ((value[at++] ?? 0) > zones) return false
      continue
    }
    const length = value[at++] ?? 0
    const span = { at, end: at + length }
    if (length > 127 || span.end > end) return false // a name of 128 bytes or more is left to decodeValue
    if (tag === ADDRESS) {
      if (++addresses > ADDRESSES_MAX || !liesWithin(value, span, within)) return false
    } else if (tag === FOR_ZONES) {
      if (!areZoneNumbers(0, [...value.subarray(span.at, span.end)], zones)) return false
    } else if (tag !== HOSTNAME && tag !== NODE) return false
    else if (!isName(value, span, tag === NODE)) return false
    at = span.end
  }
  return at === end && addresses > 0
}

/** Whether an address of 4 or 16 bytes lies in one of the blocks. An IPv4-mapped address never does. */
function liesWithin(value: Uint8Array, { at, end }: Span, within: readonly Block[]): boolean {
  if (end - at === 16 && isMapped(value, at)) return false
  return within.some(({ bytes, bits }) => {
    if (bytes.length !== end - at) return false
    const whole = bits >> 3
    for (let index = 0; index < whole; index++) if (value[at + index] !== bytes[index]) return false
    const mask = 0xff & (0xff00 >> (bits & 7))
    return mask === 0 || (((value[at + whole] ?? 0) ^ (bytes[whole] ?? 0)) & mask) === 0
  })
}

/** Whether 16 bytes lie in ::ffff:0:0/96. Such an address is a second name for an IPv4 address. */
function isMapped(value: Uint8Array, at: number): boolean {
  for (let index = 0; index < 10; index++) if (value[at + index] !== 0) return false
  return value[at + 10] === 0xff && value[at + 11] === 0xff
}

const [DOT, HYPHEN] = [0x2e, 0x2d]

/**
 * Whether the bytes are empty or a DNS label; with `dots`, the name of a Kubernetes object. The rules are those of
 * value-codec.ts, for bytes.
 */
function isName(value: Uint8Array, { at: start, end }: Span, dots: boolean): boolean {
  let label = start
  for (let at = start; at < end; at++) {
    const byte = value[at] ?? 0
    if (byte === DOT) {
      if (!dots || at === label || at + 1 === end || value[at - 1] === HYPHEN) return false
      label = at + 1
    } else if (byte === HYPHEN ? at === label : !isLetterOrDigit(byte)) return false
    if (!dots && at - label >= LABEL_MAX) return false
  }
  return end === start || value[end - 1] !== HYPHEN
}

const LABEL_MAX = 63

function isLetterOrDigit(byte: number): boolean {
  return (byte >= 0x61 && byte <= 0x7a) || (byte >= 0x30 && byte <= 0x39)
}

/** The same value without its endpoints. decodeValue then checks the other fields, which takes little time. */
function withoutEndpoints(value: Uint8Array, { start, end }: EndpointRun): Uint8Array {
  const inner = innerStart(value)
  const length = value.length - inner - (end - start)
  const head = new Uint8Array(1 + varintBytes(length) + length)
  head[0] = SLICE_TAG
  const at = writeVarint(head, 1, length)
  head.set(value.subarray(inner, start), at)
  head.set(value.subarray(end), at + start - inner)
  return head
}

/** The index of the first byte of the EndpointSlice message, behind the tag and length of the Value. */
function innerStart(value: Uint8Array): number {
  const reader = new ByteReader(value, 1)
  reader.varint()
  return reader.at
}

// Endpoint slices of which a view needs the name now and the endpoints when somebody asks: a million endpoints as objects take
// 200 MB and a second to make, their bytes are held anyway.
// Invariants
//   1. A slice that is answered is the one that decodeValue would answer, endpoints included: they were checked here, in place.
//   2. Every address in it lies in the prefixes given. What is not plain (outside them, unknown fields, another spelling) is
//      left to decodeValue and its caller, who say what is wrong with it.
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

/** `read` answers `value` again, later. The endpoints are decoded anew when their last reader's were collected. */
export function lazySlice(options: {
  readonly key: string
  readonly value: Uint8Array
  readonly read: () => Uint8Array
  readonly within: readonly Cidr[]
}): EndpointSliceValue | undefined {
  const { key, value, read } = options
  const run = findEndpoints(value)
  if (run === undefined || run.count > ENDPOINTS_MAX) return undefined
  if (!arePlain(value, run, blocksOf(options.within))) return undefined
  const head = decodeValue(key, withoutEndpoints(value, run))
  if (head.kind === 'invalid' || head.value.kind !== 'endpointSlice') return undefined
  const { namespace, name, service, ports } = head.value
  const slice = { kind: 'endpointSlice', namespace, name, service, ports } as const
  return Object.defineProperties(slice, { endpoints: ENDPOINTS, [SOURCE]: { value: { key, read } } }) as Lazy
}

/** The value of a slice as bytes: those that it lies in, without decoding, or encoded. */
export function sliceBytes(slice: EndpointSliceValue): Uint8Array {
  return SOURCE in slice ? (slice as Lazy)[SOURCE].read() : encodeValue(slice)
}

/** An accessor that all slices share: one of its own would cost each of them 500 bytes. */
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

function arePlain(value: Uint8Array, run: EndpointRun, within: readonly Block[]): boolean {
  const reader = new ByteReader(value, run.start)
  while (reader.at < run.end) {
    reader.at++ // the tag
    const length = reader.varint()
    const end = reader.at + length
    if (!isPlain(value, { at: reader.at, end }, within)) return false
    reader.at = end
  }
  return true
}

interface Span {
  readonly at: number
  readonly end: number
}

// The fields of Endpoint as tags: addresses, ready, serving, terminating, hostname, node.
const [ADDRESS, READY, SERVING, TERMINATING, HOSTNAME, NODE] = [0x0a, 0x10, 0x18, 0x20, 0x2a, 0x32]

/** Its fields in their order, each once but for addresses, which come first. */
function isPlain(value: Uint8Array, { at: start, end }: Span, within: readonly Block[]): boolean {
  let [at, last, addresses] = [start, 0, 0]
  while (at < end) {
    const tag = value[at++] ?? 0
    if (tag < last || (tag === last && tag !== ADDRESS)) return false
    last = tag
    if (tag === READY || tag === SERVING || tag === TERMINATING) {
      if ((value[at++] ?? 2) > 1) return false
      continue
    }
    const length = value[at++] ?? 0
    const span = { at, end: at + length }
    if (length > 127 || span.end > end) return false // a name of 128 bytes or more is left to decodeValue
    if (tag === ADDRESS) {
      if (++addresses > ADDRESSES_MAX || !liesWithin(value, span, within)) return false
    } else if (tag !== HOSTNAME && tag !== NODE) return false
    else if (!isName(value, span, tag === NODE)) return false
    at = span.end
  }
  return at === end && addresses > 0
}

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

/** ::ffff:0:0/96, a second name for an IPv4 address. */
function isMapped(value: Uint8Array, at: number): boolean {
  for (let index = 0; index < 10; index++) if (value[at + index] !== 0) return false
  return value[at + 10] === 0xff && value[at + 11] === 0xff
}

const [DOT, HYPHEN] = [0x2e, 0x2d]

/** Empty, or a DNS label, or with `dots` the name of a Kubernetes object. */
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

/** The same value with its endpoints cut out. */
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

function innerStart(value: Uint8Array): number {
  const reader = new ByteReader(value, 1)
  reader.varint()
  return reader.at
}

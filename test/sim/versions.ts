// The version before this one and a version to come, as far as others can tell: what they understand, what they say and what
// they sign. An agent of the version before is this code behind a wire that loses what it does not know. One of the version to
// come sends a field more in every message, frames and record values of kinds that nobody knows, and signs heads with more in
// them than we know.
import { readFileSync } from 'node:fs'
import protobuf from 'protobufjs'
import { wire } from '../../src/core/wire/messages.ts'

export const VERSIONS = ['previous', 'this', 'next'] as const
export type Version = (typeof VERSIONS)[number]

/** A service of such a name is of another kind to a writer of the version to come. */
export const NEXT_KIND_PREFIX = 'x'

const FUTURE = { name: 'future', id: 1000 }
const NEXT_KIND = { name: 'import', id: 100 }
const NEXT_FRAME = { name: 'probe', id: 200 }
const NEXT_KIND_TEXT = 'from elsewhere: '
// Of all services of the simulator (storm.ts).
const NAMESPACE = 'shop'

const previous = load('previous.proto')
const next = load('../../proto/mesh.proto')
for (const type of messagesOf(next)) type.add(new protobuf.Field(FUTURE.name, FUTURE.id, 'string'))
addKind('Value', 'kind', NEXT_KIND)
addKind('Frame', 'message', NEXT_FRAME)
const PROBE = encode(next.lookupType('rhizome.mesh.v1.Frame').create({ [NEXT_FRAME.name]: 'how far?' }))
const PING_TAG = (7 << 3) | 2

/** What leaves an agent of this version that wants to send `frame`. */
export function sent(version: Version, frame: Uint8Array): readonly Uint8Array[] {
  if (version === 'this') return [frame]
  if (version === 'next') {
    const wider = asNext('Frame', frame)
    return frame[0] === PING_TAG ? [wider, PROBE] : [wider]
  }
  const known = asPrevious(frame)
  return known ? [known] : []
}

/** What an agent of this version reads; undefined when it is nothing to it. */
export function received(version: Version, frame: Uint8Array): Uint8Array | undefined {
  return version === 'previous' ? asPrevious(frame) : frame
}

/** Whatever is encoded meanwhile to be signed or replicated is as this version writes it. */
export function writingAs<T>(version: Version, act: () => T): T {
  writer = version
  try {
    return act()
  } finally {
    writer = 'this'
  }
}

/** A record value of a kind that this version does not know. */
export function isOfNextKind(value: Uint8Array): boolean {
  return new protobuf.Reader(value).uint32() >>> 3 === NEXT_KIND.id
}

/** Two versions differ by their generated code; so this is where another one writes. */
let writer: Version = 'this'
const encodeValueOfThis = wire.Value.encode.bind(wire.Value)
wire.Value.encode = inVersions('Value', encodeValueOfThis)
wire.Head.encode = inVersions('Head', wire.Head.encode.bind(wire.Head))
// What it writes, it reads: own values pass the decoder of their version before they are signed.
const decodeThis = wire.Value.decode.bind(wire.Value)
wire.Value.decode = (source, length) => {
  const bytes = source instanceof protobuf.Reader ? source.buf : source
  return writer === 'next' && isOfNextKind(bytes) ? decodeThis(asThis(bytes)) : decodeThis(source, length)
}

function inVersions<T>(name: 'Value' | 'Head', encodeThis: Encode<T>): Encode<T> {
  return (message, out) =>
    writer === 'next'
      ? protobuf.Writer.create().raw(asNext(name, encodeThis(message).finish()))
      : encodeThis(message, out)
}

type Encode<T> = (message: T, out?: protobuf.Writer) => protobuf.Writer

function asPrevious(frame: Uint8Array): Uint8Array | undefined {
  const type = previous.lookupType('rhizome.mesh.v1.Frame')
  const reader = new protobuf.Reader(frame)
  reader.discardUnknown = true
  const known = encode(type.decode(reader))
  return known.length === 0 ? undefined : known
}

function asNext(name: 'Frame' | 'Head' | 'Value', bytes: Uint8Array): Uint8Array {
  const message = next.lookupType(`rhizome.mesh.v1.${name}`).decode(bytes)
  widen(message)
  return encode(message)
}

function widen(message: protobuf.Message): void {
  for (const field of message.$type.fieldsArray) {
    if (!Object.hasOwn(message, field.name)) continue
    const value: unknown = Reflect.get(message, field.name)
    for (const each of Array.isArray(value) ? value : [value])
      if (each instanceof protobuf.Message) widen(each)
  }
  if (message.$type.name === 'Value') renew(message)
  Reflect.set(message, FUTURE.name, 'of a version to come')
}

/** The service that became something else in `renew`, as this version writes it; nothing but its name is left of it. */
function asThis(bytes: Uint8Array): Uint8Array {
  const message = next.lookupType('rhizome.mesh.v1.Value').decode(bytes)
  const text: unknown = Reflect.get(message, NEXT_KIND.name)
  const name = String(text).slice(NEXT_KIND_TEXT.length)
  const service = { namespace: NAMESPACE, name, headless: true }
  return new Uint8Array(encodeValueOfThis(wire.Value.create({ service })).finish())
}

/** A service becomes something else, if its name says so. */
function renew(value: protobuf.Message): void {
  const service: unknown = Reflect.get(value, 'service')
  if (!(service instanceof protobuf.Message)) return
  const name: unknown = Reflect.get(service, 'name')
  if (typeof name !== 'string' || !name.startsWith(NEXT_KIND_PREFIX)) return
  Reflect.deleteProperty(value, 'service')
  Reflect.set(value, NEXT_KIND.name, `${NEXT_KIND_TEXT}${name}`)
}

function encode(message: protobuf.Message): Uint8Array {
  return new Uint8Array(message.$type.encode(message).finish())
}

function load(file: string): protobuf.Root {
  return protobuf.parse(readFileSync(new URL(file, import.meta.url), 'utf8'), { keepCase: true }).root
}

function messagesOf(namespace: protobuf.NamespaceBase): readonly protobuf.Type[] {
  return namespace.nestedArray.flatMap((each) => {
    if (each instanceof protobuf.Type) return [each]
    return each instanceof protobuf.Namespace ? messagesOf(each) : []
  })
}

function addKind(type: string, oneof: string, { name, id }: { name: string; id: number }): void {
  const kind = new protobuf.Field(name, id, 'string')
  next.lookupType(`rhizome.mesh.v1.${type}`).oneofs?.[oneof]?.add(kind)
}

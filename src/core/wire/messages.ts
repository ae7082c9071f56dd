// The only file that uses the code generated from proto/mesh.proto: bytes to messages and back. Decoders return
// undefined for malformed bytes and never throw. They check the form only. The meaning (lengths of keys, names,
// addresses) is checked by the code that uses the message: value-codec.ts for values, trust/ for certificates and
// tokens, replication/ for heads and deltas.
// Source: Protocol Buffers encoding, protobuf.dev/programming-guides/encoding.
import protobuf from 'protobufjs/minimal.js'
import './protobuf-setup.ts'
import { rhizome } from '#mesh-proto'
import { FRAME_BYTES_MAX } from './limits.ts'

/** The generated message classes and enums. Encode with `encodeMessage`, decode with the functions below. */
export const wire = rhizome.mesh.v1

/**
 * A decoded message: scalars are never absent (proto3 defaults), 64-bit integers are safe numbers, sub-messages may
 * be null.
 */
export type Message<T> = { readonly [K in Exclude<keyof T, '$unknowns'>]-?: Field<NonNullable<T[K]>> }

/** The type of a field after decoding; the generated types allow absent fields and Long objects in most places. */
type Field<T> = T extends Uint8Array
  ? Uint8Array
  : T extends readonly (infer E)[]
    ? readonly Item<NonNullable<E>>[]
    : T extends { toNumber(): number }
      ? number
      : T extends object
        ? Message<T> | null
        : T

type Item<T> = Exclude<Field<T>, null>

export type FrameMessage = Message<rhizome.mesh.v1.Frame.$Properties>
export type HelloMessage = Message<rhizome.mesh.v1.Hello.$Properties>
export type SignedHeadMessage = Message<rhizome.mesh.v1.SignedHead.$Properties>
export type OperationMessage = Message<rhizome.mesh.v1.Operation.$Properties>
export type DeltaMessage = Message<rhizome.mesh.v1.Delta.$Properties>
export type HeadsMessage = Message<rhizome.mesh.v1.Heads.$Properties>
export type CreditMessage = Message<rhizome.mesh.v1.Credit.$Properties>
export type PingMessage = Message<rhizome.mesh.v1.Ping.$Properties>
export type PullMessage = Message<rhizome.mesh.v1.Pull.$Properties>
export type ValueMessage = Message<rhizome.mesh.v1.Value.$Properties>
export type PrefixMessage = Message<rhizome.mesh.v1.Prefix.$Properties>
export type StatementMessage = Message<rhizome.mesh.v1.Statement.$Properties>
export type StatementBodyMessage = Message<rhizome.mesh.v1.StatementBody.$Properties>

export const decodeFrame = decoder(wire.Frame)
export const decodeHead = decoder(wire.Head)
export const decodeSignedHead = decoder(wire.SignedHead)
export const decodeSuspicionBody = decoder(wire.SuspicionBody)
export const decodeBeaconBody = decoder(wire.BeaconBody)
export const decodeValueMessage = decoder(wire.Value)
export const decodeInviteToken = decoder(wire.InviteToken)
export const decodeGatewayToken = decoder(wire.GatewayToken)
export const decodeTrustItem = decoder(wire.TrustItem)
export const decodeStatementBody = decoder(wire.StatementBody)

/**
 * The bytes of a message: `encodeMessage(wire.Frame, { ping: { id: 1 } })`. Values of a wrong type are encoded
 * without an error, so the caller's types are the only guard.
 */
export function encodeMessage<T>(type: Encoder<T>, message: T): Uint8Array {
  // A copy, because the writer's result may be a slice of a shared pool, and a Buffer, whose `slice` does not copy.
  return new Uint8Array(type.encode(message).finish())
}

/** The bytes of one frame of the protocol between neighbours. */
export function encodeFrame(frame: rhizome.mesh.v1.Frame.$Properties): Uint8Array {
  return encodeMessage(wire.Frame, frame)
}

interface Encoder<T> {
  encode(message: T): { finish(): Uint8Array }
}

interface Codec<T> extends Encoder<T> {
  decode(reader: protobuf.Reader): object
}

/**
 * A decoder for one message type. It returns undefined for more than FRAME_BYTES_MAX bytes, before it reads any of
 * them.
 */
function decoder<T>(type: Codec<T>): (bytes: Uint8Array) => Message<T> | undefined {
  return (bytes) => {
    if (bytes.length > FRAME_BYTES_MAX) return undefined
    try {
      // The generated class has this shape: prototype defaults fill absent scalars, ExactReader makes the numbers safe.
      // oxlint-disable-next-line typescript/no-unsafe-type-assertion
      return type.decode(new ExactReader(bytes)) as Message<T>
    } catch {
      return undefined // malformed: the caller counts it
    }
  }
}

/**
 * A reader that refuses 64-bit integers which a number cannot hold exactly (the library would round them), and drops
 * unknown fields.
 */
class ExactReader extends protobuf.Reader {
  override discardUnknown = true
  override uint64() {
    return exact(super.uint64())
  }
  override int64() {
    return exact(super.int64())
  }
}

function exact<T>(value: T): T {
  if (!Number.isSafeInteger(value)) throw new RangeError('integer beyond 2^53')
  return value
}

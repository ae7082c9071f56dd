// Encodes a delta as frames. A large delta is cut into parts, so that other frames of the connection can pass between
// two of them. push/broadcast.ts uses it for pushes; answers to pulls are made part by part in pull/pull-server.ts.
import { toSignedHead, type Head } from './head.ts'
import { operationBytes, type Operation } from './record.ts'
import { encodeFrame } from '../wire/messages.ts'

/** Returns one frame or more, each with operations of about `partBytes` at most. The first frame carries `credential`. */
export function deltaFrames(delta: {
  readonly head: Head
  readonly fromSeq: number
  readonly operations: readonly Operation[]
  readonly credential?: Uint8Array | undefined
  readonly partBytes: number
}): readonly Uint8Array[] {
  const { head, fromSeq, operations, credential, partBytes } = delta
  const parts = splitBySize(operations, partBytes)
  return parts.map((operations, part) =>
    encodeFrame({
      delta: {
        head: toSignedHead(head),
        fromSeq,
        operations: operations.map(encodeOperation),
        part,
        more: part < parts.length - 1,
        ...(credential && part === 0 ? { credential } : {})
      }
    })
  )
}

/**
 * Returns the wire form of an operation. A tombstone has a flag of its own, because an empty value is not a valid one.
 */
export function encodeOperation({ key, seq, value }: Operation) {
  return value ? { key, seq, value } : { key, seq, tombstone: true }
}

/** Cuts operations into parts in their order. A part has one operation at least, even one larger than `partBytes`. */
function splitBySize(operations: readonly Operation[], partBytes: number): readonly (readonly Operation[])[] {
  let part: Operation[] = []
  let bytes = 0
  const parts = [part]
  for (const operation of operations) {
    const size = operationBytes(operation)
    if (bytes + size > partBytes && part.length > 0) {
      part = []
      bytes = 0
      parts.push(part)
    }
    part.push(operation)
    bytes += size
  }
  return parts
}
